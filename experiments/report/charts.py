"""Diagrams as inline SVG: pure functions from numbers to text, a fraction of a millisecond each.

Every diagram is as wide as its view box, 440 units, and carries what it shows in words; text from
outside is escaped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experiments.figures.colors import FAINT, GRID, INK, PLAIN
from experiments.report import svg

_BUCKETS = 48  # of a curve; what one pixel of a small panel could show at most
# Space that one letter takes, in units, at the sizes used here.
_LETTER = 5.8

Value = float | None
Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class Series:
    """Numbers that share a color.

    Attributes:
        name: Stands in the legend.
        color: As ``#rrggbb``.
        values: One per group or place; None where there is none.
        bounds: Ends of the interval of each value; none at all if empty.
    """

    name: str
    color: str
    values: Sequence[Value]
    bounds: Sequence[Bounds] = field(default=())


def bars(
    title: str,
    groups: Sequence[str],
    series: Sequence[Series],
    *,
    top: float,
    unit: str = "",
    digits: int = 0,
    overlay: bool = False,
) -> str:
    """Return upright bars in groups, with whiskers where there are intervals.

    Args:
        title: What the diagram shows, for those who cannot see it.
        groups: Names below the bars.
        series: One bar per group each.
        top: Number at the upper end of the axis; the lower end is 0.
        unit: Stands at the axis.
        digits: Decimals of the numbers above the bars.
        overlay: Let the series share one place per group: of each group one series has a value.
    """
    widest = max((len(line) for name in groups for line in _broken(name)), default=0)
    crowded = widest * _LETTER * len(groups) > svg.WIDTH - 40
    below = 14 + (6 * max(len(svg.short(name, 14)) for name in groups) if crowded else 26)
    height = 176 + below
    y = svg.Scale(0, top, 176, 34)
    parts = [legend(series), grid(y, svg.ticks(0, top), 34, unit)]
    room = (svg.WIDTH - 40) / max(1, len(groups))
    width = min(34.0, room * 0.82 / (1 if overlay else len(series)))
    small = width < 17
    for column, name in enumerate(groups):
        center = 36 + room * (column + 0.5)
        parts.append(_name(center, 190, name, crowded))
        for place, one in enumerate(series):
            value = one.values[column]
            if value is None:
                continue
            left = center - width / 2 + (0 if overlay else (place - (len(series) - 1) / 2) * width)
            bounds = one.bounds[column] if one.bounds else None
            parts.append(svg.box(left + 0.5, y(value), width - 1, y(0) - y(value), one.color))
            parts.append(_whisker(left + width / 2, y, bounds))
            end = y(value if bounds is None else max(value, bounds[1]))
            size = 9 if small else 10.5
            if not (small and overlay):
                text = f"{value:.{digits}f}"
                parts.append(svg.text(left + width / 2, end - 3, text, size, "middle"))
    return svg.drawing(title, height, parts)


def ranked_bars(
    title: str,
    panels: Mapping[str, Sequence[tuple[str, Sequence[float], str, bool]]],
    series: Sequence[tuple[str, str]],
) -> str:
    """Return lying bars in percent, one panel below the other.

    Args:
        title: What the diagram shows, for those who cannot see it.
        panels: Name -> rows of a name, a share in [0, 1] per series, a note and whether the row
            stands out.
        series: Name and color of each.
    """
    x = svg.Scale(0, 100, 128, svg.WIDTH - 52)
    parts = [legend([Series(name, color, ()) for name, color in series])]
    top, thick = 30.0, 7.0
    for name, rows in panels.items():
        parts.append(svg.text(0, top + 10, name, 11, weight=600))
        top += 18
        end = top + len(rows) * (thick * len(series) + 5)
        for tick in (0, 25, 50, 75, 100):
            parts.append(svg.line(x(tick), top - 2, x(tick), end, GRID))
            parts.append(svg.text(x(tick), end + 11, f"{tick}", 10.5, "middle", FAINT))
        for row, values, note, strong in rows:
            middle = top + thick * len(series) / 2
            parts.append(
                svg.text(
                    122, middle + 3.5, svg.short(row, 19), 10.5, "end", weight=700 if strong else 0
                )
            )
            for place, (value, (_, color)) in enumerate(zip(values, series, strict=True)):
                length = x(100 * value) - x(0)
                parts.append(svg.box(x(0), top + place * thick, length, thick - 0.5, color))
            parts.append(svg.text(x(100 * max(values)) + 5, middle + 3.5, note, 10.5, color=FAINT))
            top += thick * len(series) + 5
        top += 24
    return svg.drawing(title, top - 6, parts)


def curves(title: str, values: Mapping[str, Sequence[float]]) -> str:
    """Return curves over their steps, two panels in a row: the mean of each stretch in its range.

    Args:
        title: What the diagram shows, for those who cannot see it.
        values: Name -> one number per step; empty ones are left out.
    """
    shown = {name: list(steps) for name, steps in values.items() if len(steps)}
    parts = []
    for place, (name, steps) in enumerate(shown.items()):
        left, top = (place % 2) * 225, (place // 2) * 92
        parts.append(f'<g transform="translate({left} {top})">{_curve(name, steps)}</g>')
    return svg.drawing(title, 92 * math.ceil(len(shown) / 2), parts)


def _curve(name: str, values: Sequence[float]) -> str:
    stretches = _stretches(values)
    ends = [end for _, low, high in stretches for end in (low, high) if math.isfinite(end)]
    if not ends:
        return svg.text(0, 10, f"{svg.short(name, 24)}: not finite", 10.5)
    low, high = min(ends), max(ends)
    x, y = svg.Scale(0, max(1, len(stretches) - 1), 48, 208), svg.Scale(low, high, 72, 18)
    kept = [(x(i), *row) for i, row in enumerate(stretches) if math.isfinite(sum(row))]
    upper = [(place, y(top)) for place, _, _, top in kept]
    lower = [(place, y(bottom)) for place, _, bottom, _ in kept]
    return "".join(
        [
            svg.text(0, 10, svg.short(name, 30), 10.5, weight=600),
            svg.line(48, 72, 208, 72, GRID),
            svg.text(45, 22, f"{high:.2g}", 10, "end", FAINT),
            svg.text(45, 75, f"{low:.2g}", 10, "end", FAINT),
            svg.text(208, 83, f"{len(values)} steps", 10, "end", FAINT),
            svg.area([*upper, *reversed(lower)], PLAIN, 0.35),
            svg.path([(place, y(mean)) for place, mean, _, _ in kept], INK, 1.3),
        ]
    )


def _stretches(values: Sequence[float]) -> list[tuple[float, float, float]]:
    """Return mean, least and largest value of up to 48 stretches of equal length."""
    count = min(_BUCKETS, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    cut = [values[start:end] for start, end in itertools.pairwise(edges)]
    return [(sum(part) / len(part), min(part), max(part)) for part in cut]


def _whisker(x: float, y: svg.Scale, bounds: Bounds) -> str:
    if bounds is None:
        return ""
    low, high = y(bounds[0]), y(bounds[1])
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 2:.1f} {high:.1f}h4M{x - 2:.1f} {low:.1f}h4"
    return f'<path d="{path}" stroke="{INK}" fill="none"/>'


def grid(y: svg.Scale, at: Sequence[float], left: float, unit: str) -> str:
    """Return lines across the diagram, with their numbers at the left and the unit above."""
    lines = "".join(
        svg.line(left, y(tick), svg.WIDTH, y(tick), GRID)
        + svg.text(left - 5, y(tick) + 3.5, f"{tick:g}", 10.5, "end", FAINT)
        for tick in at
    )
    return lines + (svg.text(0, y.end - 8, unit, 10.5, color=FAINT) if unit else "")


def legend(series: Sequence[Series]) -> str:
    """Return names and colors, in the upper right corner."""
    parts, x = [], float(svg.WIDTH)
    for one in reversed(series):
        x -= len(one.name) * _LETTER + 22
        parts.append(svg.box(x, 3, 10, 10, one.color) + svg.text(x + 14, 12, one.name, 10.5))
    return "".join(parts)


def _name(x: float, y: float, name: str, crowded: bool) -> str:
    """Return a name below a bar: turned where there is little room, else in up to two lines."""
    if crowded:
        place = f"translate({x + 4:.1f} {y - 6:.1f}) rotate(-90)"
        return f'<g transform="{place}">{svg.text(0, 0, svg.short(name, 14), 10.5, "end")}</g>'
    return "".join(
        svg.text(x, y + 13 * i, line, 10.5, "middle") for i, line in enumerate(_broken(name))
    )


def _broken(name: str) -> list[str]:
    """Return a name in two lines if it is long and has a space, else in one."""
    first, _, second = name.partition(" ")
    return [first, second] if second and len(name) > 10 else [name]
