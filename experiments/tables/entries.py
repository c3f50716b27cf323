"""The runs that an experiment's sweeps ask for: which are there, and which are left."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import presets, short_names
from experiments.results.measures import lookup
from experiments.results.runs import Part, Run
from experiments.results.variants import plain, plain_text
from experiments.sweeps.failures import failed, failure_line
from experiments.sweeps.sweep import Job, Sweep, planned_stages
from experiments.tables.pairs import BUDGET
from experiments.terminal import printable

# Groups of the config, in the order of a row; a row is told by their names.
_ALWAYS: tuple[Part, ...] = ("data", "model", "attack", "defense")
GROUPS: tuple[Part, ...] = (*_ALWAYS, "detector")
_NAMED = ("detector", BUDGET)  # have a column where sweeps name one
# What a short name would be taken for.
_RESERVED = (*GROUPS, "target", "seed", "seeds")


@dataclass(frozen=True)
class Entry:
    """A run that some sweep of the experiment asks for.

    Attributes:
        sweep: The sweep.
        job: Its job.
        labels: What names its row -> value, as text: ``data``, ``model``, ``attack`` and
            ``defense``, and the last part of every other key that is swept.
        seed: Its seed, as text.
        run: None as long as it has no result of the stages that it needs.
        outdated: Whether it has a result of other stages, from an earlier version.
    """

    sweep: Sweep
    job: Job
    labels: Mapping[str, str]
    seed: str
    run: Run | None
    outdated: bool

    def __str__(self) -> str:
        """Return what names it within the table."""
        return " ".join([*(f"{k}={v}" for k, v in self.labels.items()), f"seed={self.seed}"])


def find_sweeps(sweeps: Sequence[Sweep], experiment: str) -> tuple[list[Sweep], str]:
    """Return the sweeps of an experiment, by its id or its preset, and its id.

    Raises:
        ValueError: If there is no such experiment, or no sweep of it.
    """
    for sweep in sweeps:
        name = sweep.experiment
        if name and name.upper() == experiment.upper():
            return [other for other in sweeps if other.experiment == name], name
        if name and _preset(sweep) == experiment:
            return [other for other in sweeps if _preset(other) == experiment], name
    names = _presets_of(experiment)
    command = " or ".join(f"invertune run experiment={name}" for name in names)
    raise ValueError(f"no sweep of experiment {experiment} among the runs yet; start: {command}")


def known_id(experiment: str) -> str:
    """Return the id of an experiment that presets have, by its id or its preset.

    Raises:
        ValueError: If there is none.
    """
    return presets()[_presets_of(experiment)[0]]


def _presets_of(experiment: str) -> list[str]:
    known = presets()
    if experiment in known:
        return [experiment]
    names = [name for name, id_ in known.items() if experiment.upper() == id_.upper()]
    if not names:
        ids: dict[str, list[str]] = defaultdict(list)
        for name, id_ in known.items():
            ids[id_].append(name)
        choices = ", ".join(f"{id_} ({', '.join(own)})" for id_, own in sorted(ids.items()))
        raise ValueError(f"no experiment {experiment!r}; choices: {choices}")
    return names


def _preset(sweep: Sweep) -> str:
    return sweep.name.rpartition("-")[0]


def find_entries(sweeps: Sequence[Sweep], runs: Sequence[Run]) -> list[Entry]:
    """Return every run that the sweeps ask for, once."""
    by_id = {run.id: run for run in runs}
    jobs = {job.id: (sweep, job) for sweep in sweeps for job in sweep.jobs}  # the newest plan
    overrides = {id_: job.settings for id_, (_, job) in jobs.items()}
    keys = dict.fromkeys(key for sweep in sweeps for key in sweep.axes if key != "seed")
    keys |= dict.fromkeys(_ALWAYS)
    keys |= {key: None for own in overrides.values() for key in own if key in _NAMED}
    values = {
        key: {id_: _value(key, overrides[id_], by_id.get(id_)) for id_ in jobs} for key in keys
    }
    for own in values.values():
        _fill(own, jobs)
    ordered = sorted(keys, key=lambda key: _rank(key.partition(".")[0]))
    short = dict(zip(ordered, short_names(ordered, _RESERVED), strict=True))
    return [
        Entry(
            sweep=sweep,
            job=job,
            labels={name: values[key][id_] or "" for key, name in short.items()},
            seed=_seed(overrides[id_], by_id.get(id_)),
            run=None if _outdated(by_id.get(id_), job) else by_id.get(id_),
            outdated=_outdated(by_id.get(id_), job),
        )
        for id_, (sweep, job) in jobs.items()
    ]


def _outdated(run: Run | None, job: Job) -> bool:
    return run is not None and planned_stages(run.result) != job.stages


def _value(key: str, overrides: Mapping[str, str], run: Run | None) -> str | None:
    """Return what a run has at a key, None where only its result could say it."""
    if key in GROUPS and key in overrides:
        return overrides[key].rpartition("/")[2]
    if run is not None:
        for part in GROUPS:
            if key == part:
                return run.name(part)
        found = lookup(run.config, key.replace(".", "/"))
        if isinstance(found, Mapping):  # a group, such as the budget
            found = found.get("name")
        if found is not None or key not in overrides:  # no way leads through a list
            return plain(found)
    return plain_text(overrides[key]) if key in overrides else None


def _fill(values: dict[str, str | None], jobs: Mapping[str, tuple[Sweep, Job]]) -> None:
    """Take what a job leaves to the config from the other jobs of its sweep."""
    known = {jobs[id_][0].name: value for id_, value in values.items() if value is not None}
    for id_, value in values.items():
        if value is None:
            values[id_] = known.get(jobs[id_][0].name)


def _seed(overrides: Mapping[str, str], run: Run | None) -> str:
    return str(run.seed) if run is not None else overrides.get("seed", "0")


def _rank(group: str) -> int:
    places: Sequence[str] = GROUPS
    return places.index(group) if group in places else len(places)


def left_lines(entries: Sequence[Entry], runs_dir: Path) -> list[str]:
    """Return a line per run without a result, and the commands that go on."""
    missing = [entry for entry in entries if entry.run is None]
    if not missing:
        return []
    lines = [f"left: {len(missing)} of {len(entries)} runs"]
    sweeps, retried = {}, set()
    for entry in missing:
        sweep, folder = entry.sweep, runs_dir / entry.job.run
        state = "outdated" if entry.outdated else "not run"
        if failed(folder):
            state = f"failed, {failure_line(folder)}  [{folder}]"
            retried.add(sweep.name)
        own = [word for word in entry.job.overrides if word not in sweep.arguments]
        lines.append(f"  {' '.join(own or entry.job.overrides)}: {state}")
        sweeps[sweep.name] = sweep
    for name, sweep in sweeps.items():
        retry = " --retry-failed" if name in retried else ""
        lines.append(f"go on: {_command(sweep, runs_dir)}{retry}")
    return [printable(line) for line in lines]


def _command(sweep: Sweep, runs_dir: Path) -> str:
    """Return the command that made a sweep."""
    words = [word for word in sweep.arguments if word != "--retry-failed"]
    if words[:1] == ["run"]:
        words = words[1:]
    if str(runs_dir) != "runs" and not any(word.startswith("runs_dir=") for word in words):
        words.append(f"runs_dir={runs_dir}")
    return shlex.join(["invertune", "run", *words])
