from __future__ import annotations

import pytest
from scipy.special import bdtr, stdtrit
from scipy.stats import binomtest

from evaluation.intervals import wilson
from evaluation.statistics import (
    POOLED,
    STUDENT,
    UNBOUNDED,
    Estimate,
    counted,
    mcnemar,
    over_seeds,
    t_interval,
    t_quantile,
)


def test_the_t_interval_is_the_one_worked_out_by_hand() -> None:
    # Mean 0.2, standard error 0.1 / sqrt(3), and 4.302653 is t at 97.5 % and 2 degrees.
    low, high = t_interval([0.1, 0.2, 0.3], UNBOUNDED)
    assert (low, high) == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-6)


def test_the_interval_of_shares_stays_in_their_range() -> None:
    assert t_interval([0.1, 0.2, 0.3])[0] == 0.0
    assert t_interval([0.9, 1.0])[1] == 1.0
    assert t_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_one_value_has_no_t_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        t_interval([0.5])


def test_one_seed_keeps_its_own_interval_and_gaps_do_not_count() -> None:
    own = Estimate(0.5, 0.4, 0.6)
    assert over_seeds([None, own]) == own
    assert over_seeds([None]) is None
    mean = over_seeds([Estimate(0.1), None, Estimate(0.3), Estimate(0.2)])
    assert mean is not None
    assert (mean.value, mean.low) == pytest.approx((0.2, 0.0))


@pytest.mark.parametrize("hits", [0, 1, 50, 99, 100])
def test_equal_seeds_have_the_interval_of_all_their_images(hits: int) -> None:
    mean = over_seeds([counted(hits / 100, 100)] * 3)
    assert mean is not None
    assert (mean.low, mean.high) == pytest.approx(wilson(3 * hits, 300))
    assert mean.interval == POOLED
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low <= mean.value <= mean.high
    assert mean.high - mean.low > 0.01


def test_seeds_that_are_far_apart_have_their_own_interval() -> None:
    shares = [0.1, 0.2, 0.3]
    mean = over_seeds([counted(share, 100) for share in shares])
    assert mean is not None
    assert (mean.low, mean.high) == pytest.approx(t_interval(shares))
    assert mean.interval == STUDENT
    # 0.5 to a tenth of a percent: of 100 images a seed that is luck.
    close = over_seeds([counted(share, 100) for share in (0.499, 0.5, 0.501)])
    assert close is not None
    assert close.interval == POOLED
    assert (close.low, close.high) == pytest.approx(wilson(150, 300))


def test_the_interval_of_seeds_of_other_sizes_counts_every_image() -> None:
    mean = over_seeds([counted(0.5, 10), counted(0.5, 30)])
    assert mean is not None
    assert (mean.low, mean.high) == pytest.approx(wilson(20, 40))


def test_equal_numbers_that_are_no_shares_have_no_interval() -> None:
    mean = over_seeds([Estimate(0.1)] * 3, UNBOUNDED)
    assert mean == Estimate(0.1)
    assert mean.low is mean.high is None
    assert mean.interval == ""
    # One that does not say its n: nothing can be counted together.
    assert over_seeds([Estimate(0.1), counted(0.1, 10)]) == Estimate(0.1)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (511, 512)])
def test_counted_shares_have_the_interval_of_the_evaluation(hits: int, n: int) -> None:
    found = counted(hits / n, n)
    assert (found.low, found.high) == pytest.approx(wilson(hits, n))


def test_counted_needs_a_case() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        counted(0.5, 0)


def test_mcnemar_is_twice_the_tail_of_fair_coins() -> None:
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(5, 1) == mcnemar(1, 5)
    assert mcnemar(0, 10) == pytest.approx(2 / 2**10)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0


def test_counts_are_not_negative() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 10, 99])
def test_the_t_quantile_is_that_of_the_library(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stdtrit(degrees, 0.975), rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 9), (40, 61), (700, 650)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(5000, 5200) == pytest.approx(2 * bdtr(5000, 10200, 0.5), rel=1e-9)


def test_a_mean_of_shares_has_an_interval_between_those_of_whole_counts() -> None:
    (low, high), middle = wilson(5, 10), counted(0.55, 10)
    assert low < (middle.low or 0) < wilson(6, 10)[0]
    assert high < (middle.high or 0) < wilson(6, 10)[1]
