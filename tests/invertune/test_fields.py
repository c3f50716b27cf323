"""Rules that fields share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from invertune.fields import (
    check_counts,
    check_is,
    check_positive,
    check_shares,
    check_tensor,
    check_weights,
)
from invertune.training.recipe import Recipe

NO_NUMBERS = ["x", None, True, math.nan, math.inf, [1]]


@dataclass(frozen=True)
class _Of:
    value: Any


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, 1.5], ids=str)
def test_a_count_is_an_integer(value: Any) -> None:
    check_counts(_Of(1), "value")
    check_counts(_Of(0), "value", least=0)
    with pytest.raises(ValueError, match=r"^value is an integer of at least 1, got "):
        check_counts(_Of(value), "value")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -0.1], ids=str)
def test_a_size_is_positive(value: Any) -> None:
    check_positive(_Of(1e-9), "value")
    with pytest.raises(ValueError, match=r"^value is positive, got "):
        check_positive(_Of(value), "value")


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1], ids=str)
def test_a_weight_is_not_negative(value: Any) -> None:
    check_weights(_Of(0), "value")
    with pytest.raises(ValueError, match=r"^value is a number of at least 0, got "):
        check_weights(_Of(value), "value")


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 1.1], ids=str)
def test_a_share_is_between_0_and_1(value: Any) -> None:
    check_shares(_Of(0.5), "value")
    with pytest.raises(ValueError, match=r"^value is a share in \(0, 1\), got "):
        check_shares(_Of(value), "value")


@pytest.mark.parametrize(
    ("zero", "one", "interval"),
    [(False, False, "(0, 1)"), (True, False, "[0, 1)"), (False, True, "(0, 1]"),
     (True, True, "[0, 1]")],
)  # fmt: skip
def test_the_ends_of_a_share(zero: bool, one: bool, interval: str) -> None:
    for end, fits in ((0, zero), (0.0, zero), (1, one), (1.0, one)):
        if fits:
            check_shares(_Of(end), "value", zero=zero, one=one)
            continue
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            check_shares(_Of(end), "value", zero=zero, one=one)
        assert f"in {interval}, got {end!r}" in str(caught.value)


def test_a_class_and_a_shape() -> None:
    check_is(_Of("x"), "value", str)
    with pytest.raises(ValueError, match="value is a str, got None"):
        check_is(_Of(None), "value", str)
    check_tensor(_Of(torch.zeros(3, 5, 5)), "value", "(3, S, S)", 3, None, None)
    for other in (
        torch.zeros(3, 5, 4),
        torch.zeros(2, 5, 5),
        torch.zeros(3, 5),
        torch.zeros(3, 0, 0),
    ):
        with pytest.raises(ValueError, match=r"value is a tensor of shape \(3, S, S\), got \("):
            check_tensor(_Of(other), "value", "(3, S, S)", 3, None, None)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"epochs": -1}, "epochs is positive, got -1"),
        ({"epochs": "x"}, "epochs is positive, got 'x'"),
        ({"batch_size": 0}, "batch_size is an integer of at least 1, got 0"),
        ({"lr": None}, "lr is positive, got None"),
        ({"muon_lr": 0.0}, "muon_lr is positive, got 0.0"),
        ({"weight_decay": -0.1}, "weight_decay is a number of at least 0, got -0.1"),
        ({"warmup": 2}, r"warmup is a share in \[0, 1\], got 2"),
        ({"betas": (0.9,)}, r"betas is two numbers in \[0, 1\), got \(0.9,\)"),
        ({"betas": (0.9, 1.0)}, r"betas is two numbers in \[0, 1\), got"),
    ],
    ids=str,
)
def test_a_recipe_that_makes_no_sense(change: dict[str, Any], rule: str) -> None:
    fields: dict[str, Any] = {
        "epochs": 1, "batch_size": 8, "lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.1,
        "warmup": 0.1,
    }  # fmt: skip
    Recipe(**fields)
    with pytest.raises(ValueError, match=rule):
        Recipe(**fields | change)
