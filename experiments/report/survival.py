"""What survived of the classes while the budget of their triggers shrank, as a diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.figures.colors import ALARM, FAINT, GRID, PLAIN
from experiments.report import svg
from experiments.results.content import Survival
from experiments.results.runs import Run

_COLUMNS, _WIDTH, _HEIGHT = 3, 148, 112
_FOOT, _TOP = 84.0, 18.0  # of a panel's axis


def survival(title: str, run: Run) -> str:
    """Return one panel for every form of trigger, of step 1 and of its verification.

    A line is a class: the share of images that it still gets at every budget, from the largest to
    the smallest. The class that the defense names stands out, the best other one is named too.

    Args:
        title: What the diagram shows.
        run: One whose defense has looked.
    """
    forms = [(when, form) for when, found in run.survival.items() for form in found]
    parts = []
    for place, (when, form) in enumerate(forms):
        left, top = place % _COLUMNS * _WIDTH, place // _COLUMNS * _HEIGHT
        panel = _panel(f"{form['form'].replace('_', ' ')}, {when}", form, run)
        parts.append(f'<g transform="translate({left} {top})">{panel}</g>')
    return svg.drawing(title, _HEIGHT * math.ceil(len(forms) / _COLUMNS), parts)


def _panel(title: str, form: Survival, run: Run) -> str:
    x = svg.Scale(0, max(1, len(form["budgets"]) - 1), 22, 136)
    y = svg.Scale(0, 1, _FOOT, _TOP)
    lines: dict[int, list[tuple[float, float]]] = {}
    for place, (labels, shares) in enumerate(zip(form["classes"], form["success"], strict=True)):
        for label, share in zip(labels, shares, strict=True):
            lines.setdefault(label, []).append((x(place), y(share)))
    own = run.found_label
    others = [label for label in lines if label != own]
    # By the area below its line, so that a class that was left behind early counts for little.
    best = max(others, key=lambda label: sum(_FOOT - y for _, y in lines[label]), default=None)
    drawn = [
        svg.text(0, 10, svg.short(title, 26), 10.5, weight=600),
        *(svg.line(22, y(tick), 136, y(tick), GRID) for tick in (0, 0.5, 1)),
        *(svg.text(19, y(tick) + 3, f"{tick:g}", 9, "end", FAINT) for tick in (0, 1)),
        *(svg.path(lines[label], PLAIN if label == best else GRID, 1.2) for label in others),
    ]
    if own in lines:
        drawn.append(svg.path(lines[own], ALARM, 1.8))
    named = [(own, ALARM), (best, FAINT)] if own in lines else [(best, FAINT)]
    words = [(_name(label, run), color) for label, color in named if label is not None]
    drawn += [
        svg.text(22 + 57 * i, 96, svg.short(name, 11), 9, color=color)
        for i, (name, color) in enumerate(words)
    ]
    drawn.append(svg.text(136, 107, _budgets(form["budgets"]), 9, "end", FAINT))
    return "".join(drawn)


def _name(label: int, run: Run) -> str:
    return run.class_names[label] if label < len(run.class_names) else f"class {label}"


def _budgets(budgets: Sequence[float]) -> str:
    if not budgets:
        return "no budget"
    return f"budget {100 * budgets[0]:.3g} % to {100 * budgets[-1]:.2g} %"
