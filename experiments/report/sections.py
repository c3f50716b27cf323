"""The page's part on each experiment: its table, what is left to run, and its diagrams."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.figures.study import find_studies
from experiments.report import diagrams
from experiments.results.runs import class_names, read_evidence, votes
from experiments.results.summary import target_line

if TYPE_CHECKING:
    from experiments.sweeps.sweep import Sweep

log = logging.getLogger(__name__)

# Id -> title; the page has them in this order.
EXPERIMENTS = {
    "A1": "Attacks",
    "A2": "Poison budget",
    "T1": "Classification",
    "T2": "Retrieval",
    "F1": "Target identification",
    "F2": "Inverted triggers",
    "T3": "Ablation",
    "T4": "Target labels",
    "T5": "Architectures",
    "F3": "Layer sensitivity",
    "F4": "Sensitivity to parameters",
}
_NOTES = {
    "A2": "No defense: what is measured is the backdoored model.",
    "F1": "How often classes are predicted on clean images and under universal perturbations. The "
    "target is the class with the largest gain; the class that step 1 names is bold.",
    "F3": "Normalized activation divergence between clean and triggered images, per layer.",
    "F4": "After the defense; the default is marked where it is one of the values.",
}
_DIAGRAMS = 36  # of one experiment
_LEADING = re.compile(r"[*\s<]*([-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)", re.IGNORECASE)
_INTERVAL = re.compile(r"(.*\S) (\[[^\]]*\])")
_GAPS = ("", "-", "–")


def experiment_sections(
    results: Sequence[Mapping[str, Any]], sweeps: Sequence[Sweep], runs_dir: Path
) -> list[dict[str, Any]]:
    """Return what the template shows of each experiment that has sweeps."""
    known = {sweep.experiment for sweep in sweeps if sweep.experiment}
    ordered = [name for name in EXPERIMENTS if name in known]
    by_id = {str(result["id"]): result for result in results}
    sections = []
    for name in [*ordered, *sorted(known - set(ordered))]:
        own = [sweep for sweep in sweeps if sweep.experiment == name]
        title = EXPERIMENTS.get(name, "")
        section: dict[str, Any] = {
            "name": name,
            "title": f"{name}: {title}" if title else name,
            "note": _NOTES.get(name, ""),
            "table": None,
            "problem": None,
            "left": [],
            "charts": _cell_charts(name, own, by_id, runs_dir),
        }
        section |= _table(results, sweeps, name, runs_dir)
        studies = [study for study in find_studies(results, own, name) if study.points]
        section["studies"] = [(study, diagrams.sensitivity(study)) for study in studies[:_DIAGRAMS]]
        sections.append(section)
    return sections


def _table(
    results: Sequence[Mapping[str, Any]], sweeps: Sequence[Sweep], name: str, runs_dir: Path
) -> dict[str, Any]:
    """Return an experiment's table, and what is left to run; or why there is none."""
    from experiments.tables.table import experiment_frame

    try:
        frame, left = experiment_frame(results, sweeps, name, runs_dir)
    except ValueError as error:
        log.warning("the page has no table of %s: %s", name, error)
        return {"problem": str(error)}
    body = [[str(cell) for cell in row] for row in frame.to_numpy().tolist()]
    return {"table": sortable([str(title) for title in frame.columns], body), "left": left}


def sortable(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return a table as the template takes it.

    A column in which every cell that is no gap begins with a number is sorted by that number.

    Args:
        titles: Of the columns.
        rows: Texts; ``**`` around one makes it bold.
    """
    numbers = [[_number(row[column]) for row in rows] for column in range(len(titles))]
    numeric = [
        any(number is not None for number in column)
        and all(key is not None or row[i] in _GAPS for key, row in zip(column, rows, strict=True))
        for i, column in enumerate(numbers)
    ]
    cells = [
        [
            {**_parts(text), "key": numbers[i][line] if numeric[i] else None}
            for i, text in enumerate(row)
        ]
        for line, row in enumerate(rows)
    ]
    return {"titles": list(zip(titles, numeric, strict=True)), "rows": cells}


def _parts(text: str) -> dict[str, Any]:
    """Return a cell's text without the interval at its end, that, and whether it is bold."""
    bold = text.startswith("**")
    plain = text.strip("*") if bold else text
    found = _INTERVAL.fullmatch(plain)
    value, interval = found.groups() if found else (plain, "")
    return {"text": value, "interval": interval, "bold": bold}


def _number(text: str) -> float | None:
    found = _LEADING.match(text)
    return float(found[1].replace("−", "-")) if found else None


def _cell_charts(
    name: str, sweeps: Iterable[Sweep], by_id: Mapping[str, Mapping[str, Any]], runs_dir: Path
) -> list[tuple[str, str]]:
    """Return the diagrams of F1 or F3: one for each setting of the axes, of its lowest seed."""
    if name not in ("F1", "F3"):
        return []
    cells: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for sweep in sweeps:
        axes = [axis for axis in sweep.axes if axis != "seed"]
        for job in sweep.jobs:
            result = by_id.get(job.id)
            if result is None:
                continue
            given = job.settings
            parts = [given.get(axis, "") for axis in axes] or [str(result["attack"]["name"])]
            model = str(result["model"]["name"])
            cell = tuple(dict.fromkeys([model, *parts]))
            if cell not in cells or result["seed"] < cells[cell]["seed"]:
                cells[cell] = result
    shown = [(cell, result, read_evidence(runs_dir, result)) for cell, result in cells.items()]
    if name == "F1":
        return [
            (f"{label}: {target_line(result)}",
             diagrams.frequencies(f"Predicted classes, {label}", evidence, class_names(result)))
            for cell, result, evidence in shown[:_DIAGRAMS]
            if votes(evidence) and (label := f"{', '.join(cell)}, seed {result['seed']}")
        ]  # fmt: skip
    # On one axis: whether a layer stands out is seen across attacks.
    top = 1.05 * max(
        (value for _, _, evidence in shown for value in evidence.get("divergence", {}).values()),
        default=1.0,
    )
    return [
        (label, diagrams.divergence(f"Divergence per layer, {label}", evidence, top))
        for cell, result, evidence in shown[:_DIAGRAMS]
        if evidence.get("divergence") and (label := f"{', '.join(cell)}, seed {result['seed']}")
    ]
