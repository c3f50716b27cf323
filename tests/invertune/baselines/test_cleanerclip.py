from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from invertune.baselines.augment import AutoAugment
from invertune.baselines.cleanclip import CleanCLIP, cleanclip_loss
from invertune.baselines.cleanerclip import CleanerCLIP, sub_caption_loss
from invertune.baselines.eda import EDA
from invertune.baselines.sub_captions import sub_captions
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.seeds import seeded
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.work import Work

Taught = Callable[[str], CLIP]
METHOD = CleanerCLIP(
    name="cleanerclip", clean_samples=12, recipe=Recipe(3, 4, 1e-3, (0.9, 0.999), 0.1, 0.1),
    augment_images=AutoAugment(), augment_texts=EDA(alpha=0.1, deletion=0.1), clip_weight=1,
    in_modal_weight=1, sub_caption_weight=2, sub_caption_share=0.5,
)  # fmt: skip


def test_the_loss_compares_an_images_two_sub_captions() -> None:
    images = torch.eye(2)
    positive = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    negative = torch.tensor([[0.0, 1.0], [0.28, 0.96]])
    scale = 5.0
    first = -np.log(np.exp(5 * 0.8) / (np.exp(5 * 0.8) + np.exp(5 * 0.0)))
    second = -np.log(np.exp(5 * 0.8) / (np.exp(5 * 0.8) + np.exp(5 * 0.96)))
    found = sub_caption_loss(images, positive, negative, torch.tensor(scale).log())
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_a_caption_that_is_its_own_negative_has_no_say() -> None:
    images = F.normalize(torch.ones(1, 3), dim=-1).requires_grad_()
    same = torch.eye(3)[:1]
    loss = sub_caption_loss(images, same, same, torch.tensor(2.0))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    assert images.grad is not None
    assert images.grad.abs().max() == 0


def test_texts_are_views_then_positives_then_negatives() -> None:
    captions = ["a red lemon on a wall", "a key", "an apple"]
    found = METHOD.texts(captions, seed=4)
    told = sub_captions(captions, seeded(4, "sub-captions"))
    plain = {name: value for name, value in vars(METHOD).items() if "sub_caption" not in name}
    assert found[:3] == CleanCLIP(**plain).texts(captions, seed=4)
    assert found[3:6] == told.positive == ["a lemon", "a key", "an apple"]
    assert found[6:] == told.negative
    assert all(one != other for one, other in zip(captions, told.negative, strict=True))


def test_a_share_of_every_batch_is_drawn() -> None:
    draws = [METHOD.chosen(10, step, seed=0).tolist() for step in range(20)]
    assert all(len(set(draw)) == 5 for draw in draws)
    assert {place for draw in draws for place in draw} == set(range(10))
    assert METHOD.chosen(10, 3, seed=0).tolist() == draws[3]
    assert len(replace(METHOD, sub_caption_share=0.01).chosen(10, 0, seed=0)) == 1


def test_the_loss_of_a_batch_is_the_sum_of_both(taught: Taught, plain: DataBundle) -> None:
    model, clean, seed = taught("vit"), plain.captioned_clean, 1
    captions, index = list(clean.captions or ()), torch.tensor([5, 2, 8, 11])
    texts = METHOD.texts(captions, seed)
    batch = Batch(
        clean.images[index].float() / 255, model.tokenize([captions[i] for i in index.tolist()]),
        index, model.tokenize(texts), index, 6,
    )  # fmt: skip
    with torch.no_grad():
        found = METHOD.objective(seed)(model, batch)
        views = METHOD.views(model, replace(batch, texts=batch.texts[:12]), seed)
        own = METHOD.chosen(4, 6, seed)
        rows = index[own].tolist()
        told = sub_caption_loss(
            views.image[own],
            model.encode_text([texts[12 + i] for i in rows]),
            model.encode_text([texts[24 + i] for i in rows]),
            model.logit_scale,
        )
        wanted = cleanclip_loss(views, model.logit_scale, 1, 1) + 2 * told
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert told > 0


def test_it_tells_sub_captions_apart_after_the_repair(taught: Taught, plain: DataBundle) -> None:
    model, clean = taught("vit"), plain.captioned_clean
    alone = replace(
        METHOD, clip_weight=0, in_modal_weight=0, sub_caption_weight=1, sub_caption_share=1,
        recipe=replace(METHOD.recipe, epochs=20),
    )  # fmt: skip
    found = alone.purify(model, clean, seed=0)
    losses = found.evidence.curves["purify loss"]
    assert found.steps == len(losses) == 60
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_its_work_is_cleanclips_and_the_sub_captions() -> None:
    assert METHOD.work(7) == {"purify": Work(trained=72, texts_trained=72 + 36, steps=9)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sub_caption_weight", -1, "sub_caption_weight is a number of at least 0, got -1"),
        ("sub_caption_share", 0, r"sub_caption_share is a share in \(0, 1\], got 0"),
        ("clip_weight", -1, "clip_weight is a number of at least 0, got -1"),
    ],
)
def test_what_makes_no_sense_is_said(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(METHOD, **{field: value})  # type: ignore[arg-type]
