"""The page's part on each experiment: its table, what is left to run, and its diagrams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from experiments.figures.inline import inlined
from experiments.figures.study import comparable, find_studies
from experiments.report import diagrams
from experiments.results.alarms import methods
from experiments.results.runs import Run
from experiments.results.summary import target_line
from experiments.sweeps.sweep import Sweep
from experiments.tables.entries import left_lines
from experiments.tables.experiment import experiment_grid
from experiments.tables.layouts import ROC, Layout, layout_of
from experiments.tables.methods import judged_runs
from experiments.tables.writers import html

log = logging.getLogger(__name__)

_DIAGRAMS = 36  # of one experiment


@dataclass(frozen=True)
class Drawing:
    """A diagram of the page.

    Attributes:
        title: Stands above it.
        drawing: As inline SVG.
        note: Stands beside the title.
    """

    title: str
    drawing: Markup
    note: str = ""


@dataclass(frozen=True)
class Section:
    """What the page shows of an experiment.

    Attributes:
        layout: What its YAML says.
        table: Its table; None where there is none.
        problem: Why there is none.
        left: Lines on the runs that are left.
        charts: Diagrams of single runs.
        studies: Diagrams of its studies.
    """

    layout: Layout
    table: Markup | None = None
    problem: str = ""
    left: Sequence[str] = ()
    charts: Sequence[Drawing] = ()
    studies: Sequence[Drawing] = ()

    @property
    def title(self) -> str:
        """Id and title."""
        return f"{self.layout.id}: {self.layout.title}" if self.layout.title else self.layout.id


def experiment_sections(
    runs: Sequence[Run], sweeps: Sequence[Sweep], runs_dir: Path
) -> list[Section]:
    """Return what the page shows of each experiment that has sweeps, in order.

    Args:
        runs: All runs below a folder.
        sweeps: All sweeps there.
        runs_dir: The folder, for the commands that go on.
    """
    names = {sweep.experiment for sweep in sweeps if sweep.experiment}
    sections = [_section(name, runs, sweeps, runs_dir) for name in names]
    return sorted(sections, key=lambda section: (section.layout.order, section.layout.id))


def _section(name: str, runs: Sequence[Run], sweeps: Sequence[Sweep], runs_dir: Path) -> Section:
    try:
        layout = layout_of(name)
        grid, entries = experiment_grid(runs, sweeps, name)
        draw = _roc if layout.diagrams == ROC else _studies
        studies = draw(name, runs, sweeps)
    except ValueError as error:
        log.warning("the page has no table of %s: %s", name, error)
        return Section(Layout(name), problem=str(error))
    return Section(
        layout,
        html(grid),
        left=left_lines(entries, runs_dir),
        charts=_charts(layout, [sweep for sweep in sweeps if sweep.experiment == name], runs),
        studies=studies,
    )


def _studies(experiment: str, runs: Sequence[Run], sweeps: Sequence[Sweep]) -> list[Drawing]:
    """Return the studies as `invertune figure` draws them."""
    found = find_studies(runs, sweeps, experiment)
    shown = [study for study in found if study.points][:_DIAGRAMS]
    if not shown:
        return []
    from experiments.figures.plots import comparison, sensitivity, svg  # half a second

    drawn = [
        Drawing(
            study.title,
            Markup(inlined(svg(sensitivity(study, titled=False)), study.title, f"{study.name}-")),
            f"{study.name}{f'; {study.left} left' if study.left else ''}",
        )
        for study in shown
    ]
    for sweep, group in comparable(shown).items():
        title = f"{group[0].names[0]}, all of {sweep}"
        drawing = inlined(svg(comparison(group)), title, f"{sweep}-compared-")
        drawn.append(Drawing(title, Markup(drawing)))
    return drawn


def _roc(experiment: str, runs: Sequence[Run], sweeps: Sequence[Sweep]) -> list[Drawing]:
    """Return the ROC curves as `invertune figure` draws them."""
    found = methods(judged_runs(runs, sweeps, experiment))
    shown = [one for one in found if one.compares]
    if not shown:
        return []
    from experiments.figures.plots import svg
    from experiments.figures.roc import roc_figure, title_of

    title = title_of(shown)
    drawing = inlined(svg(roc_figure(shown, titled=False)), title, f"{experiment}-roc-")
    return [Drawing(title, Markup(drawing))]


def _charts(layout: Layout, sweeps: Iterable[Sweep], runs: Sequence[Run]) -> list[Drawing]:
    """Return a diagram for each setting of the axes, of its lowest seed."""
    if layout.diagrams in ("none", ROC):
        return []
    cells = {
        f"{', '.join(cell)}, seed {run.seed}": run
        for cell, run in _first_seeds(sweeps, runs).items()
    }
    if layout.diagrams == "frequencies":
        return [
            Drawing(
                f"{label}: {target_line(run.result)}",
                Markup(diagrams.frequencies(f"Predicted classes, {label}", run)),
            )
            for label, run in [*cells.items()][:_DIAGRAMS]
            if run.votes
        ]
    # On one axis: whether a layer stands out is seen across attacks.
    values = [value for run in cells.values() for value in run.divergence.values()]
    top = 1.05 * max(values, default=1.0)
    return [
        Drawing(label, Markup(diagrams.divergence(f"Divergence per layer, {label}", run, top)))
        for label, run in [*cells.items()][:_DIAGRAMS]
        if run.divergence
    ]


def _first_seeds(sweeps: Iterable[Sweep], runs: Sequence[Run]) -> Mapping[tuple[str, ...], Run]:
    """Return model and setting of the axes -> the run with the lowest seed."""
    by_id = {run.id: run for run in runs}
    cells: dict[tuple[str, ...], Run] = {}
    for sweep in sweeps:
        axes = [axis for axis in sweep.axes if axis != "seed"]
        for job in sweep.jobs:
            run = by_id.get(job.id)
            if run is None:
                continue
            parts = [job.settings.get(axis, "") for axis in axes] or [run.name("attack")]
            cell = tuple(dict.fromkeys([run.name("model"), *parts]))
            if cell not in cells or run.seed < cells[cell].seed:
                cells[cell] = run
    return cells
