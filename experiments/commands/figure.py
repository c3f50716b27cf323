"""``invertune figure``: sensitivity figures of an experiment, as PNG."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from experiments.figures.study import comparable, find_studies
from experiments.files import replacing
from experiments.results.result import load_results

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
    from experiments.sweeps.sweep import load_sweeps

    results, sweeps = load_results(runs_dir), load_sweeps(runs_dir)
    studies = [study for study in find_studies(results, sweeps, experiment) if study.points]
    if not studies:
        known = sorted({sweep.experiment for sweep in sweeps if sweep.experiment})
        raise ValueError(
            f"{runs_dir} has no finished run of a sweep over numbers for experiment "
            f"{experiment!r}; experiments with sweeps there: {', '.join(known) or 'none'}"
        )
    from experiments.figures.plots import comparison, sensitivity

    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for study in studies:
        if study.left:
            log.warning("%s: %d runs are left to do", study.name, study.left)
        path = output / f"{study.name}.png"
        with replacing(path) as partial:
            partial.write_bytes(sensitivity(study))
        paths.append(path)
    for sweep, group in comparable(studies).items():
        path = output / f"{sweep}-compared.png"
        with replacing(path) as partial:
            partial.write_bytes(comparison(group))
        paths.append(path)
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
        print(path)
    return 0
