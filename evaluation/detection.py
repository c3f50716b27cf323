"""How well a score tells what has a backdoor from what has none: ROC, AUROC and its interval.

Scores may be of models or of training pairs. Only their order counts, so they may be infinite;
equal ones are never told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import Z_95
from evaluation.statistics import Estimate

NEWCOMBE = "Newcombe"  # what the 95 % interval of an AUROC is


class Roc(NamedTuple):
    """A ROC curve from (0, 0) to (1, 1); between its points it is a straight line.

    Attributes:
        false_positives: Share of the negatives that an alarm at each threshold is raised for.
        true_positives: Share of the positives.
        thresholds: An alarm is raised from this score on; the first is infinite.
    """

    false_positives: tuple[float, ...]
    true_positives: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Separation:
    """How well a score tells positives from negatives.

    Attributes:
        auroc: Share of the pairs of a positive and a negative in which the positive scores higher;
            ties count half. With its 95 % interval.
        average_precision: Area under precision over recall, as a step function.
        fpr_at_95_tpr: Share of false alarms where at least 95 % of the positives are found.
        positives, negatives: How many there are.
    """

    auroc: Estimate
    average_precision: float
    fpr_at_95_tpr: float
    positives: int
    negatives: int


def separation(scores: ArrayLike, positive: ArrayLike) -> Separation:
    """Return all of it for one score.

    Args:
        scores: (N,), higher is more suspicious.
        positive: (N,) bool: what has a backdoor.

    Raises:
        ValueError: If a score is NaN, if the lengths differ, or if there is no positive or no
            negative.
    """
    ranks, truth, _ = _ranked(scores, positive)
    count = int(truth.sum())
    return Separation(
        auroc(scores, positive),
        average_precision(scores, positive),
        false_positives_at(roc_curve(scores, positive), 0.95),
        count,
        len(ranks) - count,
    )


def auroc(scores: ArrayLike, positive: ArrayLike) -> Estimate:
    """Return the area under the ROC curve with the interval of `auroc_interval`.

    Args:
        scores: (N,), higher is more suspicious.
        positive: (N,) bool.

    Raises:
        ValueError: As `separation` does.
    """
    from sklearn.metrics import roc_auc_score  # a second, for those who need it

    ranks, truth, _ = _ranked(scores, positive)
    area, count = float(roc_auc_score(truth, ranks)), int(truth.sum())
    low, high = auroc_interval(area, count, len(truth) - count)
    return Estimate(area, min(low, area), max(high, area), interval=NEWCOMBE)


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the mean precision over the thresholds, each weighed by the recall that it adds.

    Args:
        scores: (N,), higher is more suspicious.
        positive: (N,) bool.

    Raises:
        ValueError: As `separation` does.
    """
    from sklearn.metrics import average_precision_score

    ranks, truth, _ = _ranked(scores, positive)
    return float(average_precision_score(truth, ranks))


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> Roc:
    """Return the curve with a point for every score that there is.

    Args:
        scores: (N,), higher is more suspicious.
        positive: (N,) bool.

    Raises:
        ValueError: As `separation` does.
    """
    from sklearn import metrics

    ranks, truth, values = _ranked(scores, positive)
    false, true, at = metrics.roc_curve(truth, ranks, drop_intermediate=False)
    thresholds = [math.inf, *values[at[1:].astype(int)].tolist()]
    return Roc(tuple(false.tolist()), tuple(true.tolist()), tuple(thresholds))


def false_positives_at(roc: Roc, sensitivity: float) -> float:
    """Return the smallest share of false alarms at which enough positives are found.

    Args:
        roc: The curve.
        sensitivity: The share of positives, in (0, 1], such as 0.95.

    Raises:
        ValueError: If it is no such share.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"a sensitivity is a share in (0, 1], got {sensitivity}")
    points = zip(roc.false_positives, roc.true_positives, strict=True)
    return min(false for false, true in points if true >= sensitivity)


def auroc_interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUROC, both ends in [0, 1] (Newcombe, 2006, method 5).

    It holds the areas whose own standard error does not put the found one further than 1.96 away,
    as Wilson's does for a share. DeLong's and a bootstrap have no width where positives and
    negatives are wholly apart, which few cases often are; this one has. The standard error is
    Hanley's and McNeil's (1982), with the mean of both numbers of cases for either.

    Args:
        area: What was found, in [0, 1].
        positives, negatives: Numbers of cases.

    Raises:
        ValueError: If the area is no share, or a number of cases is below 1.
    """
    if not 0 <= area <= 1:
        raise ValueError(f"an AUROC is a share in [0, 1], got {area}")
    if min(positives, negatives) < 1:
        counts = f"{positives} positives and {negatives} negatives"
        raise ValueError(f"an AUROC is of at least 1 positive and 1 negative, got {counts}")
    return (
        _furthest(area, 0.0, positives, negatives),
        _furthest(area, 1.0, positives, negatives),
    )


def _furthest(area: float, end: float, positives: int, negatives: int) -> float:
    """Return the area furthest towards an end that the found one is compatible with."""
    inside, outside = area, end
    for _ in range(60):  # halves the distance each time, down to rounding
        middle = (inside + outside) / 2
        near = abs(area - middle) <= Z_95 * _deviation(middle, positives, negatives)
        inside, outside = (middle, outside) if near else (inside, middle)
    return inside if outside != end else end


def _deviation(area: float, positives: int, negatives: int) -> float:
    others = (positives + negatives) / 2 - 1
    spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (positives * negatives))


def _ranked(
    scores: ArrayLike, positive: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return the rank of every score, from 0, what is positive, and the score of every rank.

    Raises:
        ValueError: As `separation` does.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    if values.ndim != 1 or values.shape != truth.shape:
        shapes = f"shapes {values.shape} and {truth.shape}"
        raise ValueError(f"every score has one truth, in one row each, got {shapes}")
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{missing} of {len(values)} scores are NaN, which has no rank")
    if truth.all() or not truth.any():
        kind = "positive" if truth.any() else "negative"
        raise ValueError(f"a ROC curve needs positives and negatives, all {len(truth)} are {kind}")
    ordered, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.int64), truth, ordered
