from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from invertune.baselines.augment import AutoAugment
from invertune.baselines.eda import EDA
from invertune.baselines.suspects import TrainingTime, Views
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.defense import check_needs
from invertune.training.recipe import Recipe

DEFENSE = TrainingTime(
    name="mine",
    recipe=Recipe(1, 8, 3e-3, (0.9, 0.98), 0.1, 0.1),
    augment_images=AutoAugment(),
    augment_texts=EDA(alpha=0.1, deletion=0.1),
)


def test_what_was_not_given_is_said_in_one_line(
    plain: DataBundle, tiny: Callable[[str], CLIP]
) -> None:
    origin = tiny("vit")
    given = replace(plain.clean, suspects=plain.pairs, origin=origin)
    assert DEFENSE.start(given) == (origin, plain.pairs)
    for lacking, said in (("origin", "model to start from"), ("suspects", "pairs that a model")):
        with pytest.raises(ValueError, match=f"mine is a training-time defense.*{said}") as caught:
            DEFENSE.start(replace(given, **{lacking: None}))
        assert "\n" not in str(caught.value)
    few = replace(given, suspects=plain.pairs.take(torch.arange(7)))
    with pytest.raises(ValueError, match=r"mine.*8.*7"):
        DEFENSE.start(few)


def test_fewer_pairs_than_a_batch_are_said_before_any_work(plain: DataBundle) -> None:
    check_needs(DEFENSE, plain, poisoned_pairs=True, pairs=8)
    check_needs(DEFENSE, plain, poisoned_pairs=True)
    said = "defense mine takes batches of 8 pairs, the attack trains on 7: take a smaller"
    with pytest.raises(ValueError, match=said):
        check_needs(DEFENSE, plain, poisoned_pairs=True, pairs=7)


def test_captions_are_reworded_once_for_each_view(plain: DataBundle) -> None:
    first, again, other = (DEFENSE.reworded(plain.pairs, 3, view) for view in (0, 0, 1))
    assert first.captions == again.captions
    assert first.captions != other.captions
    assert first.images is plain.pairs.images
    assert first.ids == plain.pairs.ids
    words = [set(caption.split()) for caption in plain.pairs.captions]
    assert all(set(new.split()) <= old for new, old in zip(first.captions, words, strict=True))


def test_a_view_is_drawn_by_seed_and_name() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    views = Views(AutoAugment(), 3)
    first = views(images, 7)
    torch.rand(5)  # moves the global generator
    assert torch.equal(views(images, 7), first)
    assert torch.equal(AutoAugment()(images, views.generator(7)), first)
    for other in (views(images, 8), views(images, 7, "other"), Views(AutoAugment(), 4)(images, 7)):
        assert not torch.equal(other, first)
