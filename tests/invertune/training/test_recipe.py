from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from invertune.training.recipe import Recipe

RECIPE = Recipe(2, 8, 3e-3, (0.9, 0.98), 0.1, 0.1)


@pytest.mark.parametrize(
    ("epochs", "pairs", "steps"), [(2, 48, 12), (2, 55, 12), (0.5, 48, 3), (0.01, 48, 1)]
)
def test_steps_are_whole_batches(epochs: float, pairs: int, steps: int) -> None:
    assert replace(RECIPE, epochs=epochs).steps(pairs) == steps


def test_a_batch_needs_its_pairs() -> None:
    RECIPE.check_pairs(8, "implant")
    with pytest.raises(ValueError, match="implant needs at least batch_size=8 pairs, got 7"):
        RECIPE.check_pairs(7, "implant")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 0}, "batch_size is an integer of at least 1, got 0"),
        ({"batch_size": 1.5}, "batch_size is an integer of at least 1, got 1.5"),
        ({"epochs": 0}, "epochs is positive, got 0"),
        ({"lr": "fast"}, "lr is positive, got 'fast'"),
        ({"muon_lr": -1.0}, "muon_lr is positive, got -1.0"),
        ({"weight_decay": -0.1}, "weight_decay is a number of at least 0, got -0.1"),
        ({"teacher_weight": float("nan")}, "teacher_weight is a number of at least 0, got nan"),
        ({"warmup_from": -1}, "warmup_from is a number of at least 0, got -1"),
        ({"cosine_to": "low"}, "cosine_to is a number of at least 0, got 'low'"),
        ({"train_batch_norm_factors": True}, "train_batch_norm_factors is of freeze_batch_norm"),
        ({"warmup": 2}, r"warmup is a share in \[0, 1\], got 2"),
        ({"betas": (0.9,)}, r"betas is two numbers in \[0, 1\), got \(0.9,\)"),
        ({"betas": (0.9, 1.0)}, r"betas is two numbers in \[0, 1\), got"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(RECIPE, **change)
