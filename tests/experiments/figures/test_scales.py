from __future__ import annotations

import pytest

from experiments.figures.scales import color_range, number, shade, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], [0, 0.5, 1]),
        ([3, 1, 2], [1, 0, 0.5]),
        ([16, 64, 256], [0, 0.5, 1]),  # a factor of 16: logarithmic
        ([0, 1, 10], [0, 0.5, 1]),  # 0 has no logarithm: evenly
        ([7], [0.5]),
    ],
)
def test_a_parameter_is_spread_by_its_range(values: list[float], expected: list[float]) -> None:
    assert spread(values) == pytest.approx(expected)


def test_a_small_difference_is_not_blown_up_to_full_color() -> None:
    assert color_range([0.995, 0.996]) == pytest.approx((0.98, 1.0), abs=0.006)
    assert color_range([0.0, 0.0]) == pytest.approx((0.0, 0.02))
    assert color_range([0.1, 0.9]) == (0.1, 0.9)


def test_a_shade_is_a_mix_with_white() -> None:
    assert shade("#0080ff", 0) == "#ffffff"
    assert shade("#0080ff", 1) == "#0080ff"
    assert shade("#000000", 0.2) == "#cccccc"


@pytest.mark.parametrize(
    ("value", "text"), [(240.0, "240"), (0.15, "0.15"), (2e-5, "2e-05"), (0.0, "0")]
)
def test_values_are_written_short(value: float, text: str) -> None:
    assert number(value) == text
