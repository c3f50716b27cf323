"""What every trigger is, and its file format."""

from __future__ import annotations

import contextlib
import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor

_HOME = "attacks.triggers."


class Trigger(Protocol):
    """A frozen dataclass that stamps images; its fields are its whole state."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1], rounded to 8 bit."""


def round_to_8_bit(images: Tensor) -> Tensor:
    """Return the values that survive saving as an 8-bit image, in [0, 1]."""
    return images.clamp(0, 1).mul(255).round().div(255)


def trigger_state(trigger: Trigger) -> dict[str, Any]:
    """Return the class and fields of a trigger, as plain values."""
    kind = type(trigger)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **asdict(cast(Any, trigger))}


def load_trigger(path: Path) -> Trigger:
    """Read a trigger that was saved as the JSON of its `trigger_state`.

    Raises:
        ValueError: If the file names a class outside ``attacks.triggers``.
    """
    state = json.loads(path.read_text(encoding="utf-8"))
    target = state.pop("_target_", "")
    module, _, name = target.rpartition(".")
    kind = None
    if target.startswith(_HOME):
        with contextlib.suppress(ImportError):
            kind = getattr(importlib.import_module(module), name, None)
    # A module also holds what it imports.
    if not (isinstance(kind, type) and kind.__module__.startswith(_HOME)):
        raise ValueError(f"{path} names {target!r}; a trigger is a class of {_HOME[:-1]}")
    return cast(Trigger, kind(**state))
