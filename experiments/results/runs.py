"""One run as tables see it: its result, and what its stages left where they are at hand."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.results.measures import lookup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_NO_PREDICTION = -1
_FILE = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Which test images a purified model gets right, and which ones its backdoor gets.

    Attributes:
        labels: (N,) true classes, which say whether two runs saw the same images.
        correct: (N,) clean images predicted as their own class.
        hit: (N,) triggered images predicted as the target; False for images of the target class.
            None without a trigger.
    """

    labels: NDArray[np.int32]
    correct: NDArray[np.bool_]
    hit: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Run:
    """A run below a folder of runs.

    Attributes:
        result: Content of its ``result.json``.
        runs_dir: The folder.
    """

    result: Mapping[str, Any]
    runs_dir: Path

    @functools.cached_property
    def evidence(self) -> Mapping[str, Any]:
        """What the defense found on its way; empty where it is not on this machine."""
        return read_evidence(self.runs_dir, self.result)

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """What the purified model predicted; None where that is not on this machine."""
        path = stage_folder(self.runs_dir, self.result, "evaluate/purified") / _FILE
        if not path.is_file():
            return None
        import numpy as np

        try:
            with np.load(path, allow_pickle=False) as arrays:
                labels, clean, triggered = (
                    arrays[name] for name in ("labels", "clean", "triggered")
                )
            return Predictions(labels, clean == labels, _hits(labels, triggered))
        except Exception as error:  # zipfile and zlib raise types of their own
            log.warning("%s is left out: %s", path, error)
            return None


def _hits(labels: NDArray[np.int32], triggered: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """The target is the class whose images carry no trigger; without a trigger, none does."""
    import numpy as np

    target = np.unique(labels[triggered == _NO_PREDICTION])
    hits: NDArray[np.bool_] | None = triggered == target[0] if len(target) == 1 else None
    return hits


def stage_folder(runs_dir: Path, result: Mapping[str, Any], role: str) -> Path:
    """Return the folder of a run's stage; it may not be there."""
    return runs_dir / str(result.get("stages", {}).get(role, f"no-{role}"))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None, with a warning if it is there and damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", path, error)
        return None


def read_evidence(runs_dir: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the defense found, as ``evidence.json`` has it; empty where it is not there."""
    found = read_json(stage_folder(runs_dir, result, "purify") / "evidence.json")
    return found if isinstance(found, dict) else {}


def votes(evidence: Mapping[str, Any]) -> Sequence[Any]:
    """Return the votes of step 1, none where it was not made."""
    found: Sequence[Any] = (evidence.get("identification") or {}).get("votes", [])
    return found


def describe_trigger(runs_dir: Path, result: Mapping[str, Any]) -> str | None:
    """Return the trigger's class and parameters, without a look for that class."""
    state = read_json(stage_folder(runs_dir, result, "implant") / "trigger.json")
    if not isinstance(state, dict):
        return None
    fields = [f"{name}={str(value)[:40]}" for name, value in state.items() if name != "_target_"]
    return f"{str(state.get('_target_', 'trigger')).rpartition('.')[2]}({', '.join(fields)})"


def read_losses(runs_dir: Path, result: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the losses of pre-training and implanting, one per step."""
    curves = {}
    for role in ("pretrain", "implant"):
        losses = read_json(stage_folder(runs_dir, result, role) / "losses.json")
        values = losses.get("losses", []) if isinstance(losses, dict) else losses
        if values:
            curves[role] = [float(value) for value in values]
    return curves


def class_names(result: Mapping[str, Any]) -> list[str]:
    """Return the class names in the order of their indices, where the config has them."""
    return list(lookup(result["config"], "data/classes") or [])
