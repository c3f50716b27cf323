"""Numbers with their uncertainty, and a paired test over the same test images."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

SHARE = (0.0, 1.0)
UNBOUNDED = (-math.inf, math.inf)
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A number of a table.

    Attributes:
        value: The number; a share is in [0, 1].
        low, high: Ends of its 95 % interval; None where there is none.
        note: What is said beside it.
    """

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@functools.cache
def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy.stats takes a second

    return float(stdtrit(degrees, 0.975))


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
    half = _t_quantile(count - 1) * math.sqrt(variance / count)
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def over_seeds(
    estimates: Sequence[Estimate | None], bounds: tuple[float, float] = SHARE
) -> Estimate | None:
    """Return the mean over seeds with its t-interval; of one seed, its own estimate.

    Seeds without the number are left out; None if no seed has it.
    """
    known = [estimate for estimate in estimates if estimate is not None]
    if len(known) < 2:
        return known[0] if known else None
    values = [estimate.value for estimate in known]
    low, high = t_interval(values, bounds)
    # Rounding must not put the mean of equal values outside of its interval.
    value = min(max(math.fsum(values) / len(values), low), high)
    return Estimate(value, low, high)


def counted(share: float, n: int) -> Estimate:
    """Return a share of ``n`` cases with its 95 % Wilson interval.

    The share may be a mean of several shares of the same cases. `evaluation.intervals` computes the
    same from whole counts, but its package imports torch, and a table must not wait for that.

    Raises:
        ValueError: If ``n`` is not positive.
    """
    if n < 1:
        raise ValueError(f"n is a number of cases, at least 1, got {n}")
    square = _Z_95**2
    center = share + square / (2 * n)
    half = _Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    low, high = (center - half) / (1 + square / n), (center + half) / (1 + square / n)
    return Estimate(share, max(0.0, min(low, share)), min(1.0, max(high, share)))


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
    from scipy.special import bdtr

    # Half and half is symmetric: twice the lower tail of the binomial distribution.
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), discordant, 0.5)))
