"""``invertune figure``: sensitivity figures or ROC curves of an experiment, as PNG."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import presets
from experiments.figures.study import comparable, find_studies
from experiments.files import replacing
from experiments.results.alarms import methods
from experiments.results.runs import Run, load_runs
from experiments.sweeps.sweep import Sweep, load_sweeps
from experiments.tables.layouts import ROC, layout_of
from experiments.tables.methods import judged_runs
from experiments.terminal import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


def write_figures(runs_dir: Path, experiment: str, output: Path) -> list[Path]:
    """Write the figures of an experiment as PNG, and return their paths.

    That is one per study and one of all in a sweep, or its ROC curves.

    Args:
        runs_dir: Folder of runs.
        experiment: Its id, such as ``F4``.
        output: Folder of the pictures; made where it is missing.

    Raises:
        ValueError: If there is no such folder of runs, no sweep over numbers with a finished run in
            it, or no score of both backdoored and clean models.
    """
    layout = layout_of(presets().get(experiment, experiment.upper()))
    draw = _roc if layout.diagrams == ROC else _studies
    figures = draw(load_runs(runs_dir), load_sweeps(runs_dir), experiment, runs_dir)
    from experiments.figures.plots import png

    output.mkdir(parents=True, exist_ok=True)
    paths = [output / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with replacing(path) as partial:
            partial.write_bytes(png(figure))
    return paths


def _roc(
    runs: Sequence[Run], sweeps: Sequence[Sweep], experiment: str, runs_dir: Path
) -> dict[str, Figure]:
    shown = [one for one in methods(judged_runs(runs, sweeps, experiment)) if one.compares]
    if not shown:
        raise ValueError(
            f"{runs_dir} has no score of backdoored and of clean models for experiment "
            f"{experiment!r}: a curve is of both, and clean ones are those of attack=none"
        )
    from experiments.figures.roc import roc_figure

    return {f"{experiment.lower()}-roc": roc_figure(shown)}


def _studies(
    runs: Sequence[Run], sweeps: Sequence[Sweep], experiment: str, runs_dir: Path
) -> dict[str, Figure]:
    studies = find_studies(runs, sweeps, experiment)
    studies = [study for study in studies if study.points]
    if not studies:
        known = sorted({sweep.experiment for sweep in sweeps if sweep.experiment})
        raise ValueError(
            f"{runs_dir} has no finished run of a sweep over numbers for experiment "
            f"{experiment!r}; experiments with sweeps there: {', '.join(known) or 'none'}"
        )
    from experiments.figures.plots import comparison, sensitivity

    figures = {}
    for study in studies:
        if study.left:
            log.warning("%s: %d runs are left to do", study.name, study.left)
        figures[study.name] = sensitivity(study)
    for sweep, group in comparable(studies).items():
        figures[f"{sweep}-compared"] = comparison(group)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figures and print their paths."""
    parser = argparse.ArgumentParser(
        "invertune figure",
        description="Draw CA, ASR and recall after the defense over the parameters that a sweep "
        "varied, or ROC curves of the methods that tell backdoored models.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--experiment", default="F4", help="id of the experiment; F4 if not given")
    parser.add_argument("--output", type=Path, help="folder of the PNGs; RUNS/figures by default")
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.runs / "figures"
    for path in write_figures(arguments.runs, arguments.experiment, output):
        say(path)
    return 0
