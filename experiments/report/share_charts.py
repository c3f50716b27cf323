"""Shares over the parameters of a study: lines and heat maps as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.figures.colors import ALARM, FAINT, INK
from experiments.figures.scales import color_range, number, shade, spread
from experiments.report import svg
from experiments.report.charts import Bounds, Series, grid, legend


def lines(
    title: str,
    name: str,
    at: Sequence[float],
    series: Sequence[Series],
    *,
    default: float | None = None,
) -> str:
    """Return lines of shares, in percent, over a parameter, with bands for the intervals.

    Args:
        title: Stands above, and says what the diagram shows.
        name: Of the parameter.
        at: Its values, one for each of a series' values.
        series: Shares in [0, 1].
        default: The parameter's default; marked where it is one of the values.
    """
    order = sorted(range(len(at)), key=lambda i: at[i])
    places = [44 + 376 * place for place in spread([at[i] for i in order])]
    low, high = share_range(series)
    y = svg.Scale(100 * low, 100 * high, 190, 44)
    parts = [svg.text(0, 12, title, 12, weight=600), grid(y, svg.ticks(y.low, y.high, 6), 44, "%")]
    if len(series) > 1:
        parts.append(f'<g transform="translate(0 14)">{legend(series)}</g>')
    for place, i in zip(places, order, strict=True):
        marked = default is not None and at[i] == default
        if marked:
            parts.append(svg.line(place, 40, place, 190, INK, "4 3"))
            parts.append(svg.text(place, 36, "default", 10.5, "middle", FAINT))
        parts.append(
            svg.text(place, 205, number(at[i]), 10.5, "middle", weight=700 if marked else 0)
        )
    parts.append(svg.text(232, 222, name, 10.5, "middle", FAINT))
    for one in series:
        bounds = list(one.bounds) or [None] * len(at)
        band = [(place, bounds[i]) for place, i in zip(places, order, strict=True)]
        known = [(place, ends) for place, ends in band if ends is not None]
        upper = [(place, y(100 * ends[1])) for place, ends in known]
        lower = [(place, y(100 * ends[0])) for place, ends in known]
        parts.append(svg.area([*upper, *reversed(lower)], one.color, 0.18))
        values = [(place, one.values[i]) for place, i in zip(places, order, strict=True)]
        points = [(place, y(100 * value)) for place, value in values if value is not None]
        parts.append(svg.path(points, one.color, 2))
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.2" fill="{one.color}"/>'
                  for px, py in points]  # fmt: skip
    return svg.drawing(title, 228, parts)


def share_range(series: Sequence[Series]) -> tuple[float, float]:
    """Return ends of an axis, in [0, 1], that hold all values and intervals with some room."""
    held = [value for one in series for value in one.values if value is not None]
    held += [end for one in series for ends in one.bounds if ends is not None for end in ends]
    if not held:
        return 0.0, 1.0
    low, high = min(held), max(held)
    room = max(0.01, 0.08 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def heat_map(
    title: str,
    axes: tuple[str, str],
    at: tuple[Sequence[float], Sequence[float]],
    cells: Mapping[tuple[float, float], tuple[float, Bounds]],
    *,
    color: str = ALARM,
    ends: tuple[float, float] | None = None,
    default: tuple[float | None, float | None] = (None, None),
) -> str:
    """Return a table of colored cells with their shares, in percent, and intervals in them.

    Args:
        title: Stands above, and says what the diagram shows.
        axes: Names of the rows' and the columns' parameter.
        at: Their values.
        cells: (Row's value, column's value) -> share in [0, 1] and its interval; gaps stay white.
        color: Of the cell with the largest share.
        ends: Shares that are white and full color; the cells' own extremes if None.
        default: The parameters' defaults; that cell gets a frame.
    """
    rows, columns = sorted(at[0]), sorted(at[1])
    low, high = color_range([value for value, _ in cells.values()], ends)
    wide, tall = (svg.WIDTH - 74) / max(1, len(columns)), 34.0
    parts = [
        svg.text(0, 12, title, 12, weight=600),
        svg.text(0, 30, f"{axes[0]} ↓", 10.5, color=FAINT),
    ]
    parts.append(svg.text(svg.WIDTH - 4, 30, f"{axes[1]} →", 10.5, "end", FAINT))
    frame = ""
    for i, row in enumerate(rows):
        top = 54 + i * tall
        strong = 700 if row == default[0] else 0
        parts.append(svg.text(64, top + tall / 2 + 4, number(row), 10.5, "end", weight=strong))
        for j, column in enumerate(columns):
            left = 70 + j * wide
            if i == 0:
                strong = 700 if column == default[1] else 0
                parts.append(svg.text(left + wide / 2, 48, number(column), 10.5, "middle",
                                   weight=strong))  # fmt: skip
            parts.append(_cell(left, top, wide, tall, cells.get((row, column)), color, low, high))
            if (row, column) == default:
                frame = (
                    f'<rect class="default" x="{left + 1:.1f}" y="{top + 1:.1f}" '
                    f'width="{wide - 2:.1f}" height="{tall - 2:.1f}" fill="none" '
                    f'stroke="{INK}" stroke-width="2.5"/>'
                )
    return svg.drawing(title, 58 + len(rows) * tall, [*parts, frame])


def _cell(
    left: float,
    top: float,
    width: float,
    height: float,
    cell: tuple[float, Bounds] | None,
    color: str,
    low: float,
    high: float,
) -> str:
    middle = left + width / 2
    if cell is None:
        return svg.text(middle, top + height / 2 + 4, "–", 10.5, "middle", FAINT)
    value, bounds = cell
    strength = 0.06 + 0.84 * svg.Scale(low, high, 0, 1)(value)
    ink = "#ffffff" if strength > 0.6 else INK
    parts = [
        svg.box(left + 0.5, top + 0.5, width - 1, height - 1, shade(color, strength)),
        svg.text(middle, top + (15 if bounds else 21), f"{100 * value:.1f}", 11, "middle", ink),
    ]
    if bounds:
        text = f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"
        parts.append(svg.text(middle, top + 27, text, 9 if width > 55 else 6.5, "middle", ink))
    return "".join(parts)
