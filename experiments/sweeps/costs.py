"""How long stages took, and how long the missing ones will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.files import read_json
from experiments.schema import quick
from experiments.stages.manifest import MANIFEST

_SECONDS = quick({"type": "number", "minimum": 0, "maximum": 1e12})


@dataclass
class Costs:
    """How long the stages took that are there.

    Attributes:
        runs_dir: Folder of runs.
        known: Name of a stage's folder -> its seconds, as far as they were asked for.
    """

    runs_dir: Path
    known: dict[str, float | None] = field(default_factory=dict)

    def seconds(self, folder: str) -> float | None:
        """Return how long a stage took; None if it is not complete."""
        if folder not in self.known:
            self.known[folder] = self._read(folder)
        return self.known[folder]

    def _read(self, folder: str) -> float | None:
        path = self.runs_dir / "stages" / folder / MANIFEST
        try:
            seconds = read_json(path)["seconds"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return float(seconds) if _SECONDS(seconds) else None


def kind_of(folder: str) -> str:
    """Return the name of a folder's stage, such as ``purify``."""
    return folder.rsplit("-", 1)[0]


def means_by_kind(spent: Mapping[str, float]) -> dict[str, float]:
    """Return the mean seconds of each kind of stage.

    Args:
        spent: Folder -> seconds.
    """
    by_kind: dict[str, list[float]] = defaultdict(list)
    for folder, seconds in spent.items():
        by_kind[kind_of(folder)].append(seconds)
    return {kind: sum(values) / len(values) for kind, values in by_kind.items()}


def duration(seconds: float) -> str:
    """Return a time as people say it, such as ``1 h 05 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
