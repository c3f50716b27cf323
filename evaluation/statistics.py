"""Numbers with their uncertainty, and a paired test over the same test images."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.intervals import wilson

SHARE = (0.0, 1.0)
UNBOUNDED = (-math.inf, math.inf)
# What a 95 % interval is: of one share, of a mean over seeds, of the images of all seeds together.
WILSON, STUDENT, POOLED = "Wilson", "t", "pooled Wilson"


@dataclass(frozen=True)
class Estimate:
    """A number of a table.

    Attributes:
        value: The number; a share is in [0, 1].
        low, high: Ends of its 95 % interval; None where there is none.
        note: What is said beside it.
        n: How many cases a share is of, where it is one.
        interval: `WILSON`, `STUDENT` or `POOLED`; empty where there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    n: int | None = field(default=None, compare=False)
    interval: str = field(default="", compare=False)


@functools.cache
def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, to about 14 digits.

    Of whole degrees the distribution is a finite sum, which takes no scipy: that alone would be
    half of the time of a table.
    """
    low, high = 0.0, 13.0  # one degree has 12.7, and more degrees less
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, degrees: int) -> float:
    """Return the probability that Student's t is between -t and t (Abramowitz, Stegun, 26.7.3)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def t_interval(values: Sequence[float], bounds: tuple[float, float] = SHARE) -> tuple[float, float]:
    """Return the 95 % t-interval of the mean of independent runs.

    Args:
        values: One number per seed, at least 2.
        bounds: Smallest and largest value that there is; the interval is clipped to them.

    Raises:
        ValueError: If there are fewer than 2 values.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"a t-interval needs at least 2 values, got {count}")
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = t_quantile(count - 1) * math.sqrt(variance / count)
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def over_seeds(
    estimates: Sequence[Estimate | None], bounds: tuple[float, float] = SHARE
) -> Estimate | None:
    """Return the mean over seeds with the wider of two intervals; of one seed, its own estimate.

    The t-interval knows only how far the seeds are apart: equal results of two or three seeds would
    have no width. Wilson's, over the images of all seeds together, knows only how many images there
    are; it is there where every estimate says its n. Without it equal results have no interval.

    Seeds without the number are left out; None if no seed has it.
    """
    known = [estimate for estimate in estimates if estimate is not None]
    if len(known) < 2:
        return known[0] if known else None
    values = [estimate.value for estimate in known]
    value = min(max(math.fsum(values) / len(values), min(values)), max(values))
    found = {STUDENT: t_interval(values, bounds)} if len(set(values)) > 1 else {}
    found |= {POOLED: _pooled(known)} if all(estimate.n for estimate in known) else {}
    if not found:
        return Estimate(value)
    interval, (low, high) = max(found.items(), key=lambda item: item[1][1] - item[1][0])
    # Rounding must not put the mean outside of its interval.
    return Estimate(value, min(low, value), max(high, value), interval=interval)


def _pooled(estimates: Sequence[Estimate]) -> tuple[float, float]:
    cases = sum(estimate.n or 0 for estimate in estimates)
    hits = math.fsum(estimate.value * (estimate.n or 0) for estimate in estimates)
    return wilson(min(hits, cases), cases)


def counted(share: float, n: int) -> Estimate:
    """Return a share of ``n`` cases with its 95 % Wilson interval.

    The share may be a mean of several shares of the same cases.

    Raises:
        ValueError: If ``n`` is not positive.
    """
    if n < 1:
        raise ValueError(f"n is a number of cases, at least 1, got {n}")
    low, high = wilson(share * n, n)
    return Estimate(share, min(low, share), max(high, share), n=n, interval=WILSON)


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p of McNemar's test.

    Args:
        first_only: Images that the first model alone gets.
        second_only: Images that the second model alone gets.

    Raises:
        ValueError: If a count is negative.
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"counts are at least 0, got {first_only} and {second_only}")
    discordant = first_only + second_only
    if discordant == 0:
        return 1.0
    # Half and half is symmetric: twice the lower tail of the binomial distribution.
    term = tail = 1
    for k in range(min(first_only, second_only)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << discordant))
