"""Shapes and text of an inline SVG, as strings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from experiments.figures.colors import INK

WIDTH = 440  # of every diagram, in units of its view box


@dataclass(frozen=True)
class Scale:
    """A straight map from numbers to places.

    Attributes:
        low, high: Numbers at the two ends.
        start, end: Their places.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a number; one beyond the ends goes to the nearer end."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers, about ``count`` of them, that lie in [low, high]."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def drawing(title: str, height: float, parts: Sequence[str]) -> str:
    """Return a whole drawing that says its title to those who cannot see it."""
    said = escape(title)
    return (
        f'<svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}"><title>{said}</title>{"".join(parts)}</svg>'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    anchor: str = "start",
    color: str = INK,
    weight: int = 0,
) -> str:
    """Return one line of text; ``weight`` 0 is the usual one."""
    more = f' text-anchor="{anchor}"' if anchor != "start" else ""
    more += f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{color}"{more}>'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, height: float, color: str) -> str:
    """Return a filled rectangle; a negative size is none."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
        f'height="{max(0.0, height):.1f}" fill="{color}"/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, color: str, dash: str = "") -> str:
    """Return a straight line."""
    more = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{more}/>'


def path(points: Sequence[tuple[float, float]], color: str, width: float) -> str:
    """Return a line through points."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'


def area(points: Sequence[tuple[float, float]], color: str, strength: float) -> str:
    """Return a filled polygon; nothing for fewer than four points, which have no area here."""
    if len(points) < 4:
        return ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{places}" fill="{color}" fill-opacity="{strength:g}"/>'


def short(name: str, letters: int) -> str:
    """Return a name, cut off after so many letters."""
    return name if len(name) <= letters else name[: letters - 1] + "…"
