"""How a run was logged to the end: ``tracking.json`` in its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.files import read_json, replacing
from experiments.schema import quick

log = logging.getLogger(__name__)

RECORD = "tracking.json"
# A name of W&B's is one folder's, and an id stands in a pattern of names.
_NAME = {"type": ["string", "null"], "not": {"pattern": r"[/\\*?\[\x00]|^\."}}
_LOGGED = quick({"type": "object", "properties": {"run": _NAME, "id": _NAME}})


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return how a run's folder was logged to the end; None if it was not.

    ``id``, ``mode``, ``project``, ``group``, and as ``run`` the name of W&B's folder below
    ``wandb``, None where it is not known.
    """
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", folder / RECORD, error)
        return None
    if not _LOGGED(record):
        log.warning("%s is left out: it does not say how a run was logged", folder / RECORD)
        return None
    return {"run": None, **record}


def is_logged(folder: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a run's folder was logged in just this way."""
    found = read_record(folder)
    return found is not None and {key: found.get(key) for key in record} == record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write it in one step."""
    with replacing(folder / RECORD) as partial:
        partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
