"""``invertune status``: what of every sweep is done, running, failed and left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.results.runs import load_runs
from experiments.stages.locks import holder, is_held
from experiments.sweeps.costs import Costs, duration, kind_of, means_by_kind
from experiments.sweeps.failures import failed, failure_line, is_complete
from experiments.sweeps.sweep import Job, Sweep, load_sweeps
from experiments.terminal import printable

STATES = ("done", "running", "failed", "left")
_SHOWN = 5


def state(runs_dir: Path, job: Job) -> str:
    """Return one of `STATES`."""
    if is_complete(runs_dir, job):
        return "done"
    if is_held(runs_dir, job.run):
        return "running"
    return "failed" if failed(runs_dir / job.run) else "left"


def status(runs_dir: Path) -> str:
    """Return the state of all sweeps and single runs below a folder, as text.

    Raises:
        ValueError: If there is no such folder, or nothing of ours in it.
    """
    if not runs_dir.is_dir():
        raise ValueError(f"{runs_dir} is not a folder of runs")
    sweeps, costs = load_sweeps(runs_dir), Costs(runs_dir)
    parts = [_describe(runs_dir, sweep, costs) for sweep in sweeps]
    planned = {job.run for sweep in sweeps for job in sweep.jobs}
    others = load_runs(runs_dir, but=planned)
    if others:
        parts.append(f"{len(others)} complete run{'s' * (len(others) > 1)} of no sweep")
    if not parts:
        raise ValueError(f"{runs_dir} has neither sweeps nor runs")
    return "\n\n".join(parts)


def _describe(runs_dir: Path, sweep: Sweep, costs: Costs) -> str:
    states = {job.run: state(runs_dir, job) for job in sweep.jobs}
    counts = Counter(states.values())
    title = sweep.name + (f" ({sweep.experiment})" if sweep.experiment else "")
    tally = ", ".join(f"{counts[name]} {name}" for name in STATES)
    axes = " x ".join(f"{len(values)} {_short(key)}" for key, values in sweep.axes.items())
    lines = [f"{title}: {len(states)} runs{f' = {axes}' if axes else ''}: {tally}"]
    folders = list(dict.fromkeys(name for job in sweep.jobs for name in job.stages.values()))
    lines.append(f"  stages: {_stages(folders, costs)}")
    lines.append(f"  time: {_time(folders, costs, counts['done'] == len(states))}")
    for name in ("running", "failed", "left"):
        chosen = [job for job in sweep.jobs if states[job.run] == name]
        for job in chosen[:_SHOWN] if name == "left" else chosen:
            lines.append(f"  {name}: {' '.join(job.overrides)}{_more(runs_dir, job, name)}")
        if name == "left" and len(chosen) > _SHOWN:
            lines.append(f"  left: and {len(chosen) - _SHOWN} more")
    return "\n".join(map(printable, lines))


def _more(runs_dir: Path, job: Job, name: str) -> str:
    if name == "running":
        return f"  [{holder(runs_dir, job.run) or 'unknown process'}]"
    if name == "failed":
        return f"  {failure_line(runs_dir / job.run)}  [{runs_dir / job.run}]"
    return ""


def _short(key: str) -> str:
    """Return the last part of an override's key, such as ``preserve``."""
    return key.rsplit(".", 1)[-1].rsplit("/", 1)[-1]


def _stages(folders: Sequence[str], costs: Costs) -> str:
    """Return how many stages of each kind the grid needs, and how many are there."""
    needed, made = Counter(map(kind_of, folders)), Counter[str]()
    for folder in folders:
        made[kind_of(folder)] += costs.seconds(folder) is not None
    kinds = ", ".join(f"{kind} {made[kind]} of {count}" for kind, count in needed.items())
    return f"{kinds}; {sum(made.values())} of {len(folders)} in all"


def _time(folders: Sequence[str], costs: Costs, done: bool) -> str:
    spent = {folder: costs.seconds(folder) for folder in folders}
    so_far = sum(seconds for seconds in spent.values() if seconds is not None)
    text = f"{duration(so_far)} so far"
    if done:
        return text
    means = means_by_kind({k: v for k, v in spent.items() if v is not None})
    missing = [kind_of(folder) for folder, seconds in spent.items() if seconds is None]
    unknown = sorted({kind for kind in missing if kind not in means})
    left = sum(means.get(kind, 0.0) for kind in missing)
    if unknown:
        return f"{text}, left unknown: no {', '.join(unknown)} was made yet"
    return f"{text}, about {duration(left)} left, one run at a time"
