"""Studies in pictures, by matplotlib: PNG files for papers and READMEs, SVG for the page."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.statistics import Estimate
from experiments.figures.colors import COLORS, FAINT, GRID, INK
from experiments.figures.scales import color_range, number, shade, spread
from experiments.figures.study import MEASURES, Study, labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shares = Mapping[tuple[float, ...], Estimate]
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    # Text stays text: a tenth of the size of outlines, and it can be searched.
    "svg.fonttype": "none",
    # A dollar in a name begins no formula.
    "text.parse_math": False,
}


def sensitivity(study: Study, titled: bool = True) -> Figure:
    """Return a study as a figure: CA, ASR and recall side by side, lines or heat maps.

    One parameter gives lines with a band for the interval, two give heat maps with their values
    written in the cells, and every further one a row of panels per value.

    Args:
        study: At least one point of it was measured.
        titled: Whether the study's title is a part of the figure.
    """
    slices = study.panels()
    flat = len(study.keys) == 1
    tall = 2.7 if flat else 1.1 + 0.42 * len(study.values(0))
    with mpl.rc_context(STYLE):
        columns = len(study.measures)
        size = (_width(columns), 0.5 * titled + tall * len(slices))
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        if titled:
            figure.suptitle(study.title, x=0.01, ha="left", fontsize=10)
        panels = figure.subplots(len(slices), columns, squeeze=False)
        for row, (named, measures) in zip(panels, slices.items(), strict=True):
            for panel, (measure, cells) in zip(row, measures.items(), strict=True):
                panel.set_title(f"{measure}, %" + (f" ({named})" if named else ""))
                if flat:
                    _lines(panel, study, measure, cells)
                else:
                    _heat_map(panel, study, measure, cells)
    return figure


def comparison(studies: Sequence[Study]) -> Figure:
    """Return studies of one single parameter as a figure: CA, ASR and recall, a line for each.

    Lines are means over the seeds; the interval of each is in the picture of its own study.
    """
    values = sorted({value for study in studies for value in study.values(0)})
    places = dict(zip(values, spread(values), strict=True))
    most = max(len(point.seeds) for study in studies for point in study.points)
    known = {name for study in studies for name in study.measures}
    measures = [name for name in MEASURES if name in known]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_width(len(measures)), 3.2), dpi=150, layout="constrained")
        title = f"{studies[0].names[0]}; mean of {most} seed{'s' if most != 1 else ''}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        panels = figure.subplots(1, len(measures), squeeze=False)[0]
        for panel, measure in zip(panels, measures, strict=True):
            for study, label, (color, marker) in zip(
                studies, labels(studies), each_line(), strict=False
            ):
                points = [point for point in study.points if measure in point.shares]
                panel.plot(
                    [places[point.at[0]] for point in points],
                    [100 * point.shares[measure].value for point in points],
                    color=color, marker=marker, markersize=4, label=label,
                )  # fmt: skip
            panel.set_title(f"{measure}, %")
            _axis(panel, places, studies[0].names[0])
        panel.legend(frameon=False, loc="best")
    return figure


def _width(panels: int) -> float:
    """Return the width of so many panels side by side, in inches."""
    return max(6.4, 1.2 + 4.2 * panels)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Return a figure as an SVG file, the same text for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": ""}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def each_line() -> Iterator[tuple[str, str]]:
    """Yield a color and a marker, no two alike among the first thirty."""
    # Okabe and Ito's colors, which color-blind readers tell apart.
    colors = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
    for i in itertools.count():
        yield colors[i % len(colors)], "osD^v"[i % 5]


def _lines(panel: Axes, study: Study, measure: str, cells: Shares) -> None:
    values = study.values(0)
    places = dict(zip(values, spread(values), strict=True))
    measured = sorted(cells)
    x = [places[at[0]] for at in measured]
    y = [100 * cells[at].value for at in measured]
    panel.plot(x, y, color=COLORS[measure], marker="o", markersize=4)
    known = [(places[at[0]], 100 * low, 100 * high) for at in measured
             if (bounds := _bounds(cells[at])) for low, high in [bounds]]  # fmt: skip
    if known:
        at, lows, highs = zip(*known, strict=True)
        panel.fill_between(at, lows, highs, color=COLORS[measure], alpha=0.18, linewidth=0)
    _axis(panel, places, study.names[0])
    if study.defaults[0] in places:
        place = places[study.defaults[0]]
        panel.axvline(place, color=INK, linestyle="--", linewidth=1)
        panel.annotate("default", (place, 1), xycoords=("data", "axes fraction"), fontsize=8,
                       xytext=(3, -3), textcoords="offset points", va="top")  # fmt: skip


def _bounds(share: Estimate) -> tuple[float, float] | None:
    return None if share.low is None or share.high is None else (share.low, share.high)


def _axis(panel: Axes, places: Mapping[float, float], name: str) -> None:
    """Put a parameter's values where they belong, and lines across behind the curves."""
    panel.set_xticks(list(places.values()), [number(value) for value in places])
    panel.set_xlabel(name)
    panel.spines[["top", "right"]].set_visible(False)
    # Equal shares are no reason for an axis beyond what there is.
    low, high = color_range([0.01 * end for end in panel.dataLim.intervaly])
    room = 15 * (high - low)
    panel.set_ylim(max(-1.0, 100 * low - room), min(101.0, 100 * high + room))
    panel.grid(axis="y")


def _heat_map(panel: Axes, study: Study, measure: str, cells: Shares) -> None:
    rows, columns = study.values(0), study.values(1)
    low, high = color_range(study.shares(measure))
    color = COLORS[measure]
    colors = LinearSegmentedColormap.from_list(measure, [shade(color, 0.06), shade(color, 0.9)])
    panel.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        share = cells.get((row, column))
        if share is None:
            panel.text(j, i, "–", ha="center", va="center", color=FAINT)
            continue
        strength = min(1.0, max(0.0, (share.value - low) / (high - low)))
        panel.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=colors(strength)))
        ink = "white" if strength > 0.65 else INK
        panel.text(j, i - 0.14, f"{100 * share.value:.1f}", ha="center", va="center", color=ink)
        if (bounds := _bounds(share)) is not None:
            text = f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"
            panel.text(j, i + 0.24, text, ha="center", va="center", fontsize=6.5, color=ink)
        if (row, column) == study.defaults[:2]:
            panel.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, ec=INK, lw=2))
    _ticks(panel, rows, columns, study.names)


def _ticks(
    panel: Axes, rows: Sequence[float], columns: Sequence[float], names: Sequence[str]
) -> None:
    panel.set_xticks(range(len(columns)), [number(value) for value in columns])
    panel.set_yticks(range(len(rows)), [number(value) for value in rows])
    panel.set(xlabel=names[1], ylabel=names[0])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
