from __future__ import annotations

import pytest

from evaluation.intervals import rate, wilson


def test_half_of_ten_by_hand() -> None:
    # z^2 = 3.84146; center (0.5 + 0.192073) / 1.384146 = 0.5; half-width
    # 1.959964 sqrt(0.025 + 0.0096036) / 1.384146 = 0.263405.
    assert wilson(5, 10) == pytest.approx((0.236595, 0.763405), abs=1e-5)


def test_one_of_a_hundred_by_hand() -> None:
    # center (0.01 + 0.0192073) / 1.0384146 = 0.028127; half-width
    # 1.959964 sqrt(0.000099 + 0.00009603646) / 1.0384146 = 0.026359.
    assert wilson(1, 100) == pytest.approx((0.001767, 0.054486), abs=1e-5)


def test_the_ends_are_exact_and_the_other_end_is_not() -> None:
    # 0 of n: high is z^2 / (n + z^2).
    assert wilson(0, 10) == (0.0, pytest.approx(3.841459 / 13.841459, abs=1e-6))
    assert wilson(10, 10) == (pytest.approx(10 / 13.841459, abs=1e-6), 1.0)


def test_no_case_says_nothing() -> None:
    assert rate(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}


@pytest.mark.parametrize("n", [1, 7, 50_000])
def test_the_interval_holds_the_share_and_stays_in_range(n: int) -> None:
    for successes in {0, 1, n // 2, n - 1, n}:
        found = rate(successes, n)
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
        assert found["n"] == n


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes are between 0 and n=3"):
        rate(successes, n)
