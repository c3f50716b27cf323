"""Studies: how CA, ASR and recall after the defense depend on its parameters."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.statistics import Estimate, over_seeds
from experiments.config import short_names
from experiments.figures.defaults import default_of
from experiments.results.measures import estimate_of
from experiments.results.runs import Run
from experiments.results.variants import differences
from experiments.sweeps.sweep import Sweep, assignment
from experiments.terminal import printable

log = logging.getLogger(__name__)

MEASURES = {
    "CA after": "zero_shot/ca",
    "ASR after": "zero_shot/asr",
    "R@1 after": "retrieval/image_to_text/r@1",
}
_SUBJECT = ("model", "attack", "defense")


@dataclass(frozen=True)
class Point:
    """What was measured at one setting of the parameters.

    Attributes:
        at: The parameters' values, in the order of the study's keys.
        seeds: The seeds of the runs, in order.
        shares: Measure (``CA after``, ``ASR after``, ``R@1 after``: images to texts) -> its mean
            over the seeds with its interval, in [0, 1], where it was measured.
    """

    at: tuple[float, ...]
    seeds: tuple[int, ...]
    shares: Mapping[str, Estimate]


@dataclass(frozen=True)
class Study:
    """One sweep over one or more numbers; all else is the same in its runs.

    Attributes:
        name: The sweep's name, and what its other axes are here.
        subject: Model, attack and defense of its runs.
        parts: The other axes, as ``attack=badnet``.
        keys: Full names of the parameters, as ``defense.tune.clusters``.
        points: What was measured, by setting.
        defaults: Each parameter's value in the YAML of its group, None where that has none.
        left: Number of runs that the sweep has and that are not done.
        sweep: The sweep's name alone.
    """

    name: str
    subject: str
    parts: tuple[str, ...]
    keys: tuple[str, ...]
    points: tuple[Point, ...]
    defaults: tuple[float | None, ...]
    left: int = 0
    sweep: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' short names: the last parts of their keys, as many as tell them apart."""
        return tuple(map(printable, short_names(self.keys)))

    @property
    def title(self) -> str:
        """What was swept, on what, with how many seeds and which defaults, in one line."""
        marked = [
            f"{name} {value:g}"
            for name, value in zip(self.names, self.defaults, strict=True)
            if value is not None
        ]
        most = max((len(point.seeds) for point in self.points), default=0)
        facts = [
            " × ".join(self.names),
            self.subject,
            *(part for part in self.parts if part.partition("=")[0] not in _SUBJECT),
            f"{most} seed{'s' if most != 1 else ''}",
            *(["95 %: the wider of Student's t and Wilson's, pooled"] if most > 1 else []),
            *([f"default: {', '.join(marked)}"] if marked else []),
        ]
        return printable("; ".join(facts))

    def values(self, axis: int) -> list[float]:
        """Return the values of one parameter, in order."""
        return sorted({point.at[axis] for point in self.points})

    def shares(self, measure: str) -> list[float]:
        """Return the shares of one measure, of all points that have it, in [0, 1]."""
        return [point.shares[measure].value for point in self.points if measure in point.shares]

    @property
    def measures(self) -> list[str]:
        """The measures that any of its runs has."""
        return [name for name in MEASURES if any(name in point.shares for point in self.points)]

    def panels(self) -> dict[str, dict[str, dict[tuple[float, ...], Estimate]]]:
        """Return the shares as they are drawn.

        Returns:
            Values of the third and further parameters, as text -> measure -> values of the first
            two parameters (or of the only one) -> share.
        """
        further = [self.values(axis) for axis in range(2, len(self.keys))]
        panels = {}
        for rest in itertools.product(*further):
            named = zip(self.names[2:], rest, strict=True)
            points = [point for point in self.points if point.at[2:] == rest]
            if points:
                panels[", ".join(f"{name}={value:g}" for name, value in named)] = {
                    measure: {
                        point.at[:2]: point.shares[measure]
                        for point in points
                        if measure in point.shares
                    }
                    for measure in self.measures
                }
        return panels


def find_studies(
    runs: Sequence[Run], sweeps: Sequence[Sweep], experiment: str = "F4"
) -> list[Study]:
    """Return the studies of an experiment: one per sweep and setting of its other axes.

    A sweep whose runs all belong to a later one as well is left out, and so is one without an
    axis of numbers, or over detectors: these change no CA and no ASR.

    Args:
        runs: As `load_runs` gives them.
        sweeps: As `load_sweeps` gives them.
        experiment: Its id.
    """
    by_id = {run.id: run for run in runs}
    wanted = [sweep for sweep in sweeps if sweep.experiment == experiment]
    jobs = [{job.id for job in sweep.jobs} for sweep in wanted]
    studies = []
    for i, sweep in enumerate(wanted):
        again = any(
            jobs[i] < other or (jobs[i] == other and i < j)
            for j, other in enumerate(jobs)
            if i != j
        )
        if not again:
            studies += _split(sweep, by_id)
    return studies


def _split(sweep: Sweep, by_id: Mapping[str, Run]) -> list[Study]:
    """Return one study for each setting of a sweep's axes that are not numbers."""
    axes = [key for key in sweep.axes if key != "seed"]
    if any(key.partition(".")[0] == "detector" for key in axes):
        return []
    keys = tuple(key for key in axes if _all_numbers(sweep.axes[key]))
    others = [key for key in axes if key not in keys]
    if not keys:
        return []
    groups: dict[tuple[str, ...], dict[tuple[float, ...], list[Run]]] = {}
    left: dict[tuple[str, ...], int] = {}
    for job in sweep.jobs:
        given = job.settings
        if not all(key in given for key in (*keys, *others)):
            log.warning("sweep %s: run %s lacks a value of an axis", sweep.name, job.run)
            continue
        parts = tuple(f"{key}={given[key]}" for key in others)
        at = tuple(float(given[key]) for key in keys)
        cells = groups.setdefault(parts, {})
        if job.id in by_id:
            cells.setdefault(at, []).append(by_id[job.id])
        else:
            left[parts] = left.get(parts, 0) + 1
    studies = []
    for parts, cells in groups.items():
        points = tuple(_point(at, cells[at]) for at in sorted(cells))
        first = next(iter(cells.values()))[0] if cells else None
        defaults = tuple(default_of(key, first) for key in keys)
        subject = "" if first is None else _subject(first)
        name = "-".join([sweep.name, *(re.sub(r"[^\w.-]+", "_", part) for part in parts)])
        studies.append(
            Study(name, subject, parts, keys, points, defaults, left.get(parts, 0), sweep.name)
        )
    return studies


def _subject(run: Run) -> str:
    return f"{run.name('model')}, {run.name('attack')} → {run.name('defense')}"


def _all_numbers(values: Sequence[str]) -> bool:
    try:
        return all(float(value) - float(value) == 0 for value in values)  # neither inf nor nan
    except ValueError:
        return False


def _point(at: tuple[float, ...], runs: Sequence[Run]) -> Point:
    own = [*{run.seed: run for run in sorted(runs, key=lambda run: run.seed)}.values()]
    shares = {}
    for name, measure in MEASURES.items():
        mean = over_seeds([estimate_of(run.result, "purified", measure) for run in own])
        if mean is not None:
            shares[name] = mean
    return Point(at, tuple(run.seed for run in own), shares)


def comparable(studies: Sequence[Study]) -> dict[str, list[Study]]:
    """Return the studies that can share a picture, by sweep: of one parameter, two or more."""
    groups: dict[str, list[Study]] = {}
    for study in studies:
        if len(study.keys) == 1 and study.points:
            groups.setdefault(study.sweep, []).append(study)
    return {sweep: group for sweep, group in groups.items() if len(group) > 1}


def labels(studies: Sequence[Study]) -> list[str]:
    """Return what tells studies of one sweep apart: the values of those axes that differ."""
    settings = [dict(map(assignment, study.parts)) for study in studies]
    found = differences(settings)
    return [printable(", ".join(map(str, values))) for values in zip(*found.values(), strict=True)]
