"""`invertune report`: one self-contained HTML page of all runs and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2

from experiments.figures.pictures import Picture
from experiments.files import replacing
from experiments.report.details import details_of, pictures_of, rows_of
from experiments.report.sections import experiment_sections
from experiments.results.measures import MEASURES, MODELS, percent
from experiments.results.runs import Run, load_runs
from experiments.sweeps.sweep import load_sweeps

TEMPLATE = Path(__file__).with_name("report.html.j2")
_DETAILS = 100  # runs with pictures and curves; the table has all
# Pictures are most of the page: with many runs each one shows fewer samples, and past this many
# characters none at all.
_SAMPLES, _FEW_SAMPLES, _MANY_RUNS, _PICTURES = 4, 2, 20, 5_000_000


@dataclass(frozen=True)
class Shown:
    """An attack in the gallery.

    Attributes:
        run: The run that shows it.
        pictures: Strips of test images.
        place: Of the run among the details, from 1; None where it has none.
    """

    run: Run
    pictures: Sequence[Picture]
    place: int | None


def write_report(runs_dir: Path, output: Path | None = None) -> Path:
    """Write one HTML page, without links to other files, and return its path.

    Args:
        runs_dir: Folder of runs.
        output: The page; ``report.html`` among the runs if None.

    Raises:
        ValueError: If there is no such folder, or no run in it.
    """
    runs = load_runs(runs_dir)
    if not runs:
        raise ValueError(f"{runs_dir} has no runs: no */result.json that can be read")
    sweeps = load_sweeps(runs_dir)
    count = _SAMPLES if len(runs) <= _MANY_RUNS else _FEW_SAMPLES
    room = _PICTURES
    details = []
    for run in runs[:_DETAILS]:
        part = details_of(run, count if room > 0 else 0, sweeps)
        room -= sum(len(picture.source) for picture in part.pictures)
        details.append(part)
    # Not chosen by the file's name, which would leave .html.j2 without escaping.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        rows=rows_of(runs),
        details=details,
        gallery=_gallery(runs),
        experiments=experiment_sections(runs, sweeps, runs_dir),
        models=MODELS,
        measures=MEASURES,
        today=date.today().isoformat(),
    )
    output = output or runs_dir / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as partial:
        partial.write_text(page, encoding="utf-8")
    return output


def _gallery(runs: Sequence[Run]) -> list[Shown]:
    """Return one row of pictures per attack: of its first run with the most to show."""
    best: dict[str, tuple[int, int]] = {}
    for i, run in enumerate(runs):
        if not (run.pictures / "clean-0.png").is_file():
            continue
        name, rank = run.name("attack"), int(run.result["inversion"] is not None)
        if rank > best.get(name, (-1, 0))[0]:
            best[name] = (rank, i)
    rows = [
        Shown(runs[i], pictures_of(runs[i], 2), i + 1 if i < _DETAILS else None)
        for _, (_, i) in sorted(best.items())
    ]
    return [row for row in rows if row.pictures]
