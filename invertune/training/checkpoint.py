"""The file that interrupted work goes on from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


def save_state(path: Path, stage: str, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, lists and mappings of them; a kill leaves the file as it was.

    Args:
        path: Of the file; ``.partial`` beside it is overwritten.
        stage: Name of the work.
        state: All that the work goes on from.

    Raises:
        OSError: If the disk refuses.
    """
    partial = path.with_suffix(".partial")
    torch.save({**state, "stage": stage}, partial)
    partial.replace(path)


def load_state(path: Path | None, stage: str, device: torch.device) -> dict[str, Any] | None:
    """Read what `save_state` wrote, its tensors on a device.

    Returns:
        None where there is no file; and, with a warning, where it is damaged or of other work.
    """
    if path is None or not path.is_file():  # a pipe is none
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        found = state.get("stage", stage)
    except Exception:
        log.warning("%s is damaged; %s starts again", path, stage)
        return None
    if found != stage:
        log.warning("%s is of %s; %s starts again", path, found, stage)
        return None
    return state
