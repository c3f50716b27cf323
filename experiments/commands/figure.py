"""``invertune figure``: sensitivity figures of an experiment, as PNG."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from experiments.figures.study import comparable, find_studies
from experiments.files import replacing
from experiments.results.runs import load_runs
from experiments.sweeps.sweep import load_sweeps
from experiments.terminal import say

log = logging.getLogger(__name__)


def write_figures(runs_dir: Path, experiment: str, output: Path) -> list[Path]:
    """Write one PNG per study of an experiment, one of all in a sweep, and return their paths.

    Args:
        runs_dir: Folder of runs.
        experiment: Its id, such as ``F4``.
        output: Folder of the pictures; made where it is missing.

    Raises:
        ValueError: If there is no such folder of runs, or no sweep over numbers with a finished
            run in it.
    """
    sweeps = load_sweeps(runs_dir)
    studies = find_studies(load_runs(runs_dir), sweeps, experiment)
    studies = [study for study in studies if study.points]
    if not studies:
        known = sorted({sweep.experiment for sweep in sweeps if sweep.experiment})
        raise ValueError(
            f"{runs_dir} has no finished run of a sweep over numbers for experiment "
            f"{experiment!r}; experiments with sweeps there: {', '.join(known) or 'none'}"
        )
    from experiments.figures.plots import comparison, png, sensitivity

    output.mkdir(parents=True, exist_ok=True)
    figures = {}
    for study in studies:
        if study.left:
            log.warning("%s: %d runs are left to do", study.name, study.left)
        figures[study.name] = sensitivity(study)
    for sweep, group in comparable(studies).items():
        figures[f"{sweep}-compared"] = comparison(group)
    paths = [output / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with replacing(path) as partial:
            partial.write_bytes(png(figure))
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figures and print their paths."""
    parser = argparse.ArgumentParser(
        "invertune figure",
        description="Draw CA and ASR after the defense over the parameters that a sweep varied.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--experiment", default="F4", help="id of the experiment; F4 if not given")
    parser.add_argument("--output", type=Path, help="folder of the PNGs; RUNS/figures by default")
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.runs / "figures"
    for path in write_figures(arguments.runs, arguments.experiment, output):
        say(path)
    return 0
