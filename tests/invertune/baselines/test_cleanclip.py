from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.baselines.augment import AutoAugment
from invertune.baselines.cleanclip import CleanCLIP, Views, cleanclip_loss, view_loss
from invertune.baselines.eda import EDA
from invertune.baselines.fine_tuning import FineTuning
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.seeds import seeded
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.work import Work

Taught = Callable[[str], CLIP]
RECIPE = Recipe(3, 4, 1e-3, (0.9, 0.999), 0.1, 0.1)
METHOD = CleanCLIP(
    name="cleanclip", clean_samples=12, recipe=RECIPE, augment_images=AutoAugment(),
    augment_texts=EDA(alpha=0.1, deletion=0.1), clip_weight=1, in_modal_weight=1,
)  # fmt: skip


def _features(seed: int) -> Tensor:
    return F.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_views_are_found_in_one_direction() -> None:
    """Two samples on the axes; the second one's view lies on the first one's."""
    features = torch.eye(2)
    views = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    scale = torch.tensor(2.0).log()
    # The first sees both views alike, the second neither: ln 2 each. Columns would give others.
    assert view_loss(features, views, scale).item() == pytest.approx(np.log(2))
    mixed = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    first = np.log1p(np.exp(2 * 0.6 - 2 * 1.0))
    second = np.log1p(np.exp(2 * 0.0 - 2 * 0.8))
    assert view_loss(features, mixed, scale).item() == pytest.approx((first + second) / 2)


def test_the_loss_by_plain_numpy() -> None:
    parts = [_features(seed) for seed in range(4)]
    image, text, image_view, text_view = (part.numpy().astype(np.float64) for part in parts)

    def cross_entropy(logits: np.ndarray) -> float:
        return float(-np.mean(np.diag(logits - np.log(np.exp(logits).sum(1, keepdims=True)))))

    scale = 7.0
    both = [cross_entropy(scale * image @ text.T), cross_entropy(scale * text @ image.T)]
    alone = [
        cross_entropy(scale * image @ image_view.T), cross_entropy(scale * text @ text_view.T)
    ]  # fmt: skip
    wanted = 0.5 * np.mean(both) + 4.0 * np.mean(alone)
    found = cleanclip_loss(Views(*parts), torch.tensor(scale).log(), 0.5, 4.0)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def _batch(model: CLIP, plain: DataBundle, step: int = 0) -> tuple[Batch, list[str]]:
    clean = plain.captioned_clean
    captions = list(clean.captions or ())
    texts = METHOD.texts(captions, seed=2)
    index = torch.tensor([3, 0, 7, 4])
    batch = Batch(
        clean.images[index].float() / 255, model.tokenize([captions[i] for i in index.tolist()]),
        index, model.tokenize(texts), index, step,
    )  # fmt: skip
    return batch, texts


def test_views_are_of_the_batchs_own_images_and_captions(taught: Taught, plain: DataBundle) -> None:
    model = taught("vit")
    batch, texts = _batch(model, plain, step=9)
    with torch.no_grad():
        views = METHOD.views(model, batch, seed=2)
        augmented = AutoAugment()(batch.images, seeded(2, "augment images", 9))
        wanted = Views(
            model.encode_image(batch.images),
            model.encode_tokens(batch.tokens),
            model.encode_image(augmented),
            model.encode_text([texts[i] for i in (3, 0, 7, 4)]),
        )
    for name in vars(wanted):
        torch.testing.assert_close(getattr(views, name), getattr(wanted, name))
    assert not torch.allclose(views.image, views.augmented_image)


def test_images_are_augmented_anew_at_every_step_and_captions_once(
    taught: Taught, plain: DataBundle
) -> None:
    model = taught("vit")
    with torch.no_grad():
        one, other = (METHOD.views(model, _batch(model, plain, step)[0], seed=2) for step in (0, 1))
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.augmented_text, other.augmented_text)
    assert not torch.allclose(one.augmented_image, other.augmented_image)


def test_originals_and_views_are_normalized_together(taught: Taught, plain: DataBundle) -> None:
    model = taught("resnet")
    sizes: list[int] = []
    model.visual.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    METHOD.objective(0)(model.train(), _batch(model, plain)[0])
    assert sizes == [8]


def test_without_the_further_terms_it_is_fine_tuning(taught: Taught, plain: DataBundle) -> None:
    alone = replace(METHOD, in_modal_weight=0)
    clean = plain.captioned_clean
    one = alone.purify(taught("vit"), clean, seed=0)
    other = FineTuning("ft", 12, RECIPE).purify(taught("vit"), clean, seed=0)
    assert one.steps == other.steps == 9
    curves = [found.evidence.curves["purify loss"] for found in (one, other)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_views_come_closer(taught: Taught, plain: DataBundle) -> None:
    longer = replace(METHOD, recipe=replace(RECIPE, epochs=15, lr=3e-3))
    losses = longer.purify(taught("vit"), plain.captioned_clean, seed=0).evidence.curves
    own = losses["purify loss"]
    assert np.mean(own[-10:]) < np.mean(own[:10]) - 0.2


def test_its_work_is_known() -> None:
    assert METHOD.work(7) == {"purify": Work(trained=72, texts_trained=72, steps=9)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clean_samples", 3, "purify needs at least batch_size=4 pairs, got 3"),
        ("clip_weight", -1, "clip_weight is a number of at least 0, got -1"),
        ("in_modal_weight", "two", "in_modal_weight is a number, got 'two'"),
        ("augment_images", 3, "augment_images is an object with a _target_, got 3"),
        ("augment_texts", None, "augment_texts is a EDA, got None"),
        ("clean_samples", 2.5, "clean_samples is an integer, got 2.5"),
    ],
)
def test_what_makes_no_sense_is_said(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(METHOD, **{field: value})  # type: ignore[arg-type]
