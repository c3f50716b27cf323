from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import brunnermunzel, mannwhitneyu, norm

from evaluation.detection import (
    NEWCOMBE,
    Roc,
    auroc,
    auroc_interval,
    average_precision,
    false_positives_at,
    roc_curve,
    separation,
)

# Four positives and four negatives, one tie across and one within.
SCORES = [9.0, 7.0, 5.0, 1.0, 7.0, 4.0, 4.0, 0.0]
POSITIVE = [True] * 4 + [False] * 4


def test_the_curve_is_the_one_drawn_by_hand() -> None:
    roc = roc_curve(SCORES, POSITIVE)
    assert roc.thresholds == (math.inf, 9.0, 7.0, 5.0, 4.0, 1.0, 0.0)
    assert roc.false_positives == pytest.approx((0, 0, 0.25, 0.25, 0.75, 0.75, 1))
    assert roc.true_positives == pytest.approx((0, 0.25, 0.5, 0.75, 0.75, 1, 1))


def test_ties_count_half() -> None:
    # 9 beats 4 of 4, 7 ties one and beats 3, 5 beats 3, 1 beats 1: 11.5 of 16.
    assert auroc(SCORES, POSITIVE).value == pytest.approx(11.5 / 16)
    assert auroc([3.0] * 8, POSITIVE).value == 0.5
    assert auroc([0, 1], [True, False]).value == 0.0


def test_the_area_is_that_of_the_rank_sum_test() -> None:
    random = np.random.default_rng(0)
    above, below = random.integers(0, 9, 40) + 1, random.integers(0, 9, 25)
    truth = np.arange(65) < 40
    whole = mannwhitneyu(above, below).statistic / (40 * 25)
    assert auroc(np.concatenate([above, below]), truth).value == pytest.approx(whole)


def test_precision_and_false_alarms_are_those_worked_out_by_hand() -> None:
    # Recall rises by 1/4 at 9, 7, 5 and 1, where 1 of 1, 2 of 3, 3 of 4 and 4 of 7 are positive.
    expected = (1 + 2 / 3 + 3 / 4 + 4 / 7) / 4
    found = separation(SCORES, POSITIVE)
    assert average_precision(SCORES, POSITIVE) == pytest.approx(expected)
    assert found.average_precision == pytest.approx(expected)
    assert found.fpr_at_95_tpr == 0.75  # the last positive is found at 1, with three negatives
    assert (found.positives, found.negatives) == (4, 4)
    assert found.auroc == auroc(SCORES, POSITIVE)
    roc = roc_curve(SCORES, POSITIVE)
    assert [false_positives_at(roc, share) for share in (0.25, 0.5, 0.75, 1.0)] == pytest.approx(
        [0, 0.25, 0.25, 0.75]
    )


def test_95_percent_may_be_all_but_one_in_twenty() -> None:
    scores = [*range(1, 21), 1.5]  # one positive scores below the only negative
    assert separation(scores, [True] * 20 + [False]).fpr_at_95_tpr == 0.0
    assert separation([*scores[1:], 1.5, 1.5], [True] * 19 + [False] * 3).fpr_at_95_tpr == 0.0


@pytest.mark.parametrize(
    ("area", "positives", "negatives", "expected"),
    [
        # R's SingleCaseES gives this for (28 25 24 27 30 30 29) over (20 20 26 25 22 23).
        (38.5 / 42, 7, 6, (0.5973193600384168, 0.9859976893703788)),
        (0.5, 1, 1, (0.0546, 0.9454)),  # v of (v - 1/2)^2 = 1.96^2 v (1 - v)
    ],
)
def test_the_interval_is_the_published_one(
    area: float, positives: int, negatives: int, expected: tuple[float, float]
) -> None:
    assert auroc_interval(area, positives, negatives) == pytest.approx(expected, abs=1e-4)
    mirrored = tuple(1 - end for end in reversed(expected))
    assert auroc_interval(1 - area, negatives, positives) == pytest.approx(mirrored, abs=1e-4)


def test_the_interval_is_as_wide_as_that_of_delong_where_there_are_many() -> None:
    """Brunner's and Munzel's test has DeLong's standard error below its statistic."""
    random = np.random.default_rng(1)
    above, below = random.normal(1, 1, 400), random.normal(0, 1, 300)
    found = auroc(np.concatenate([above, below]), np.arange(700) < 400)
    assert found.low is not None
    assert found.high is not None
    error = abs((found.value - 0.5) / brunnermunzel(below, above).statistic)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)
    assert found.interval == NEWCOMBE


@pytest.mark.parametrize(("shift", "positives", "negatives"), [(3.0, 20, 20), (1.0, 35, 7)])
def test_the_interval_holds_the_true_area_as_often_as_it_says(
    shift: float, positives: int, negatives: int
) -> None:
    random, true, inside = np.random.default_rng(2), norm.cdf(shift / math.sqrt(2)), 0
    for _ in range(1000):
        above, below = random.normal(shift, 1, positives), random.normal(0, 1, negatives)
        low, high = auroc_interval(np.mean(above[:, None] > below), positives, negatives)
        inside += low <= true <= high
    assert 0.93 <= inside / 1000 <= 0.99


def test_wholly_apart_has_a_width() -> None:
    low, high = auroc_interval(1.0, 35, 7)
    assert high == 1.0
    assert 0.8 < low < 0.9
    assert auroc_interval(0.0, 7, 35) == pytest.approx((0.0, 1 - low))
    wider = auroc_interval(1.0, 5, 5)
    assert wider[0] < low


def test_only_the_order_counts() -> None:
    infinite = [math.inf, *SCORES[1:-1], -math.inf]
    tensor = torch.tensor(SCORES).exp()
    expected = separation(SCORES, POSITIVE)
    assert separation(infinite, POSITIVE) == expected
    assert separation(tensor, torch.tensor(POSITIVE)) == expected
    assert roc_curve(infinite, POSITIVE).thresholds[1] == math.inf


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        ([1.0, math.nan, math.nan], [True, False, True], "2 of 3 scores are NaN"),
        ([1.0, 2.0], [True], r"every score has one truth.* \(2,\) and \(1,\)"),
        ([[1.0, 2.0]], [[True, False]], "in one row each"),
        ([1.0, 2.0], [True, True], "all 2 are positive"),
        ([1.0, 2.0], [False, False], "all 2 are negative"),
        ([], [], "all 0 are negative"),
    ],
)
def test_bad_input_is_one_line(scores: Any, positive: Any, message: str) -> None:
    for function in (separation, auroc, average_precision, roc_curve):
        with pytest.raises(ValueError, match=message) as caught:
            function(scores, positive)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc_interval(1.2, 3, 3), "an AUROC is a share"),
        (lambda: auroc_interval(0.5, 0, 3), "at least 1 positive and 1 negative, got 0"),
        (lambda: false_positives_at(Roc((0, 1), (0, 1), (2, 1)), 0.0), "a sensitivity is a share"),
    ],
)
def test_numbers_out_of_range_are_one_line(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_neither_torch_nor_scikit_learn_is_loaded_by_an_import() -> None:
    code = "import sys, evaluation.detection; sys.exit(bool({'torch', 'sklearn'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
