"""Rules that fields share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from invertune.fields import (
    check_all,
    check_calls,
    check_choices,
    check_counts,
    check_is,
    check_numbers,
    check_positive,
    check_rates,
    check_shares,
    check_tensor,
    check_terms,
    check_types,
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


@dataclass(frozen=True)
class _Typed:
    count: int = 1
    share: float = 0.5
    name: str = "mine"
    flip: bool = True
    limit: float | None = None
    other: Any = None


def test_types_are_those_of_the_fields() -> None:
    check_types(_Typed(share=1, limit=2, other=object()))
    check_types(_Typed(share=math.nan))  # whoever sums it says where


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", "x", "count is an integer, got 'x'"),
        ("count", 1.5, "count is an integer, got 1.5"),
        ("count", True, "count is an integer, got True"),
        ("count", None, "count is an integer, got None"),
        ("share", "0.5", "share is a number, got '0.5'"),
        ("share", False, "share is a number, got False"),
        ("limit", "x", "limit is a number, got 'x'"),
        ("name", 7, "name is a text, got 7"),
        ("flip", 1, "flip is true or false, got 1"),
    ],
)
def test_a_wrong_type_is_named(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        check_types(_Typed(**{field: value}))


def test_a_choice_is_a_known_one() -> None:
    check_choices(_Of("a"), value=("a", "b"))
    with pytest.raises(ValueError, match=r"^value is one of a, b, got \['a'\]$"):
        check_choices(_Of(["a"]), value=("a", "b"))


@pytest.mark.parametrize("value", [7, None, "name"], ids=str)
def test_what_is_called_can_be_called(value: Any) -> None:
    check_calls(_Of(len), "value")
    check_calls(_Of(None), "value", none=True)
    with pytest.raises(ValueError, match=r"^value is an object with a _target_, got "):
        check_calls(_Of(value), "value")


@pytest.mark.parametrize("value", [7, None, "names", [1, "x"]], ids=str)
def test_every_item_is_of_its_class(value: Any) -> None:
    check_all(_Of([1, 2]), "value", int)
    with pytest.raises(ValueError, match=r"^value is a list of ints, got "):
        check_all(_Of(value), "value", int)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1, "b": "x"}, "value.b is a number, got 'x'"),
        ({"a": True}, "value.a is a number, got True"),
        ([1], r"value maps names to numbers, got \[1\]"),
    ],
)
def test_numbers_by_name_are_numbers(value: Any, said: str) -> None:
    check_numbers(_Of({"a": 1, "b": 0.5, "c": math.nan}), "value")
    with pytest.raises(ValueError, match=said):
        check_numbers(_Of(value), "value")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1}, "value are of a, b, got a"),
        ({"a": 1, "b": 1, "c": 1}, "value are of a, b, got a, b, c"),
        ({"a": 1, "b": -0.5}, "value.b is a number of at least 0, got -0.5"),
        ({"a": math.inf, "b": 1}, "value.a is a number of at least 0, got inf"),
        (3, "value maps names to numbers, got 3"),
    ],
)
def test_the_terms_of_a_loss_are_weighed(value: Any, said: str) -> None:
    check_terms(_Of({"b": 0, "a": 0.5}), "value", ("a", "b"))
    with pytest.raises(ValueError, match=said):
        check_terms(_Of(value), "value", ("a", "b"))


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf])
def test_rates_by_name_are_positive(wrong: float) -> None:
    check_rates(_Of({"a": 1e-3, "b": 1}), "value")
    with pytest.raises(ValueError, match=f"value.b is positive, got {wrong}"):
        check_rates(_Of({"a": 1, "b": wrong}), "value")
