"""Shares with their uncertainty."""

from __future__ import annotations

import math
from typing import TypedDict

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


class Rate(TypedDict):
    """A share of ``n`` cases with its 95 % Wilson interval, as `result.json` has it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, both ends in [0, 1].

    No case says nothing: ``n=0`` gives (0, 1). A mean of several counts need not be whole.

    Raises:
        ValueError: If ``successes`` is not between 0 and ``n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes are between 0 and n={n}, got {successes}")
    if n == 0:
        return 0.0, 1.0
    share, square = successes / n, Z_95**2
    center = share + square / (2 * n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    scale = 1 + square / n
    # At 0 and n one end is exact; rounding must not push it past the share itself.
    low = 0.0 if successes == 0 else (center - half) / scale
    high = 1.0 if successes == n else (center + half) / scale
    return low, high


def rate(successes: int, n: int) -> Rate:
    """Return ``successes / n`` with its interval; 0 in [0, 1] where ``n`` is 0."""
    low, high = wilson(successes, n)
    return {"value": successes / n if n else 0.0, "low": low, "high": high, "n": n}
