"""What the stages of a run left beside its result, read without the packages that made it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.summary import lookup

log = logging.getLogger(__name__)


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
