"""Which models are taken for backdoored: ROC curves, and the scores that they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from evaluation.statistics import Estimate
from experiments.figures.colors import ALARM, FAINT, INK, PLAIN
from experiments.figures.plots import STYLE, each_line
from experiments.results.alarms import Method
from experiments.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


def title_of(methods: Sequence[Method]) -> str:
    """Return what the curves are of, in one line."""
    counts = {f"{one.backdoored} backdoored and {one.clean} clean models" for one in methods}
    of = f"{counts.pop()}; " if len(counts) == 1 else ""
    return (
        f"Which models are taken for backdoored: {of}[95 %]: Newcombe's of an AUROC, else Wilson's"
    )


def roc_figure(methods: Sequence[Method], titled: bool = True) -> Figure:
    """Return the curves in one panel, and beside it the scores of every method.

    A mark on a curve, and a line through scores, is the method's own threshold.

    Args:
        methods: At least one, all of which compare.
        titled: Whether the title is a part of the figure.
    """
    with mpl.rc_context(STYLE):
        height = max(4.0, 0.3 + 1.05 * len(methods)) + 0.3 * titled
        figure = Figure(figsize=(9.6, height), dpi=150, layout="constrained")
        if titled:
            figure.suptitle(title_of(methods), x=0.01, ha="left", fontsize=10)
        places = figure.add_gridspec(len(methods), 2, width_ratios=(1, 1.25))
        panel = figure.add_subplot(places[:, 0])
        for i, (one, (color, marker)) in enumerate(zip(methods, each_line(), strict=False)):
            _curve(panel, one, color, marker, i)
            _strip(figure.add_subplot(places[i, 1]), one, color)
        _frame(panel)
    return figure


def _curve(panel: Axes, method: Method, color: str, marker: str, place: int) -> None:
    roc = method.roc
    if roc is None:
        raise ValueError(f"{method.name} has no models of both kinds: there is no curve")
    # Curves that lie on one another are all seen: the first is the widest, and the others dashed.
    panel.plot(
        [100 * share for share in roc.false_positives],
        [100 * share for share in roc.true_positives],
        color=color, linestyle=_DASHES[place % len(_DASHES)], linewidth=max(1.4, 4.0 - place),
        label=printable(method.name), clip_on=False,
    )  # fmt: skip
    if method.found is not None and method.false_alarms is not None:
        at = (100 * method.false_alarms.value, 100 * method.found.value)
        panel.plot(*at, color=color, marker=marker, markersize=9, markeredgecolor="white",
                   zorder=3, clip_on=False)  # fmt: skip


def _frame(panel: Axes) -> None:
    panel.plot((0, 100), (0, 100), color=FAINT, linestyle=":", linewidth=1)
    panel.set(
        xlim=(0, 100), ylim=(0, 100), aspect="equal", anchor="NW",
        xlabel="false alarms, % of the clean models", ylabel="found, % of the backdoored models",
    )  # fmt: skip
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid()
    panel.legend(loc="lower right", frameon=False, title="mark: at its threshold",
                 handlelength=3, alignment="left")  # fmt: skip


def _strip(panel: Axes, method: Method, color: str) -> None:
    """Draw the scores of a method, backdoored models above clean ones."""
    finite = [one.score for one in method.judged if math.isfinite(one.score)]
    ends = (min(finite, default=0.0), max(finite, default=1.0))
    for height, (backdoored, kind) in enumerate(((False, PLAIN), (True, ALARM))):
        own = [one.score for one in method.judged if one.backdoored is backdoored]
        shown = [min(max(score, ends[0]), ends[1]) for score in own]
        panel.plot(shown, [height] * len(own), linestyle="", marker="o", markersize=6, alpha=0.45,
                   color=kind, markeredgewidth=0)  # fmt: skip
    if method.threshold is not None and math.isfinite(method.threshold):
        panel.axvline(method.threshold, color=INK, linestyle="--", linewidth=1)
    panel.set_yticks((0, 1), ("clean", "backdoored"))
    panel.set(ylim=(-0.6, 1.6), xlabel=method.score)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")
    panel.set_title(_in_words(method), color=color, fontsize=8.5)


def _in_words(method: Method) -> str:
    lines = [f"{printable(method.name)}: AUROC {_percent(method.auroc)}"]
    if method.found is not None:
        lines.append(
            f"found {_percent(method.found)}, false alarms {_percent(method.false_alarms)}"
        )
    return "\n".join(lines)


def _percent(share: Estimate | None) -> str:
    if share is None or share.low is None or share.high is None:
        return "-"
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
