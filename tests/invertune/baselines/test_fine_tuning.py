from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invertune.baselines.fine_tuning import FineTuning
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.seeds import seeded
from invertune.training.recipe import Recipe
from invertune.training.train import train
from invertune.work import Work

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
FT = FineTuning("ft", 12, Recipe(3, 4, 1e-3, (0.9, 0.999), 0.1, 0.1))


def test_it_is_the_contrastive_training_of_both_towers(
    taught: Taught, plain: DataBundle, state: State
) -> None:
    found = FT.purify(taught("vit"), plain.captioned_clean, seed=5)
    order = torch.randperm(12, generator=seeded(5, "clean"))
    own = taught("vit")
    losses = train(own, plain.captioned_clean.pairs.take(order), FT.recipe, seed=5, stage="own")
    assert found.evidence.curves == {"purify loss": losses}
    one, other, before = state(found.model), state(own), state(taught("vit"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    moved = {name for name in before if not torch.equal(before[name], one[name])}
    assert "clip.logit_scale" in moved
    assert {name.startswith("clip.visual.") for name in moved} == {True, False}


def test_few_samples_are_few(taught: Taught, plain: DataBundle) -> None:
    few = replace(FT, clean_samples=5)
    assert few.purify(taught("vit"), plain.captioned_clean, seed=0).steps == 3
    assert FT.purify(taught("vit"), plain.captioned_clean, seed=0).steps == 9


def test_its_work_is_known() -> None:
    assert FT.work(7) == {"purify": Work(trained=36, texts_trained=36, steps=9)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clean_samples", 3, "purify needs at least batch_size=4 pairs, got 3"),
        ("clean_samples", 0, "clean_samples is an integer of at least 1, got 0"),
        ("recipe", None, "recipe is a Recipe, got None"),
        ("needs", 3, "needs is a text, got 3"),
    ],
)
def test_what_makes_no_sense_is_said(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FT, **{field: value})  # type: ignore[arg-type]
