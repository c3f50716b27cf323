"""What a sweep consists of, on disk: the plan that status, tables and reports read."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.files import digest, read_json, replacing
from experiments.names import plain_name
from experiments.schema import check, quick

log = logging.getLogger(__name__)

FOLDER = "sweeps"
_TEXTS = {"type": "array", "items": {"type": "string"}}
# Files and folders are named by them.
_NAME = {"type": "string", "pattern": r"^[^./\\]", "not": {"pattern": r"[/\\\x00]"}}
_JOB = {
    "type": "object",
    "required": ["overrides", "run", "id", "stages"],
    "properties": {
        "overrides": _TEXTS,
        "run": _NAME,
        "id": {"type": "string"},
        "stages": {"type": "object", "additionalProperties": _NAME},
    },
    "additionalProperties": False,
}
_PLAN = {
    "type": "object",
    "required": ["name", "experiment", "created", "axes", "jobs", "arguments"],
    "properties": {
        "name": _NAME,
        "experiment": {"type": ["string", "null"]},
        "created": {"type": "string"},
        "axes": {"type": "object", "additionalProperties": _TEXTS},
        "jobs": {"type": "array", "items": _JOB},
        "arguments": _TEXTS,
    },
    "additionalProperties": False,
}
_FITS = quick(_PLAN)


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: What tells it from the others, such as ``attack=badnet``.
        run: Name of its folder.
        id: Its result's id.
        stages: Role -> name of the stage's folder.
    """

    overrides: list[str]
    run: str
    id: str
    stages: dict[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """Key -> value of its overrides, as text."""
        return dict(map(assignment, self.overrides))


@dataclass(frozen=True)
class Sweep:
    """A grid of runs; the same grid has the same name, however often it is started.

    Attributes:
        name: Name of its file and of its group in W&B.
        experiment: Id of the experiment, such as ``T1``; None for a grid of one's own.
        created: When it was first started, ISO 8601.
        axes: Override key -> its values, for keys of more than one value.
        jobs: The runs.
        arguments: The command line's overrides.
    """

    name: str
    experiment: str | None
    created: str
    axes: dict[str, list[str]]
    jobs: list[Job]
    arguments: list[str]


def assignment(override: str) -> tuple[str, str]:
    """Return an override's key and value: ``+a.b=3`` is ``a.b`` and ``3``."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def sweep_name(preset: str | None, ids: Sequence[str]) -> str:
    """Return the name of the sweep over the runs of these ids.

    Raises:
        ValueError: If the preset's name makes none.
    """
    beginning = (preset or "sweep").replace("/", "-")  # a preset may be in a folder
    return plain_name(f"{beginning}-{digest(sorted(ids))[:8]}", "a sweep's name")


def save_sweep(runs_dir: Path, sweep: Sweep) -> Path:
    """Write the plan below ``runs_dir`` in one step and return its path.

    A plan that is there already keeps the time of its creation.
    """
    path = runs_dir / FOLDER / f"{sweep.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = asdict(sweep)
    if path.exists():
        try:
            plain["created"] = _read(path).created
        except (ValueError, OSError):
            log.warning("%s is damaged; it is written again", path)
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return path


def load_sweeps(runs_dir: Path) -> list[Sweep]:
    """Return all sweeps below a folder, oldest first; damaged files are named in a warning."""
    sweeps = []
    for path in sorted((runs_dir / FOLDER).glob("*.json")):
        try:
            sweeps.append(_read(path))
        except (ValueError, OSError) as error:
            log.warning("%s is left out: %s", path, error)
    return sorted(sweeps, key=lambda sweep: (sweep.created, sweep.name))


def _read(path: Path) -> Sweep:
    try:
        plain = read_json(path)
    except ValueError as error:
        raise ValueError(f"it is no plan of a sweep ({error})") from error
    check(_PLAN, plain, _FITS)
    return Sweep(**{**plain, "jobs": [Job(**job) for job in plain["jobs"]]})


def axes_of(combinations: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return key -> values, in the order given, for the keys that take more than one value.

    Args:
        combinations: The overrides of every run.
    """
    values: dict[str, dict[str, None]] = {}
    for overrides in combinations:
        for override in overrides:
            key, value = assignment(override)
            values.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in values.items() if len(found) > 1}


def planned_stages(result: Mapping[str, Any]) -> dict[str, str]:
    """Return a result's stages the way `Job.stages` has them."""
    return {role: Path(folder).name for role, folder in result.get("stages", {}).items()}
