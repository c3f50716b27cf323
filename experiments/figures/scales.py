"""Places and colors of numbers in a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spread(values: Sequence[float]) -> list[float]:
    """Return places in [0, 1] for the values of a parameter, in their order.

    The axis is logarithmic where positive values span a factor of 8 or more; where 0 stands beside
    such values they are spaced evenly, and otherwise as their sizes say.
    """
    if len(set(values)) < 2:
        return [0.5] * len(values)
    low, high = min(values), max(values)
    positive = [value for value in values if value > 0]
    wide = bool(positive) and high / min(positive) >= 8
    if wide and low > 0:
        return [math.log(value / low) / math.log(high / low) for value in values]
    if wide:
        order = sorted(set(values))
        return [order.index(value) / (len(order) - 1) for value in values]
    return [(value - low) / (high - low) for value in values]


def color_range(
    shares: Sequence[float], ends: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the shares that are white and full color, at least 2 points apart."""
    low, high = ends if ends is not None else (min(shares, default=0), max(shares, default=1))
    if high - low >= 0.02:
        return low, high
    middle = min(0.99, max(0.01, (low + high) / 2))
    return middle - 0.01, middle + 0.01


def shade(color: str, strength: float) -> str:
    """Return a color mixed with white: 0 is white, 1 the color itself."""
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + strength * (part - 255)):02x}" for part in parts)


def number(value: float) -> str:
    """Return a parameter's value, short: ``0.15``, ``240``, ``2e-05``."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
