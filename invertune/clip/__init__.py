"""CLIP models: built, loaded from anywhere, encoded with.

The names below are loaded when first used: their modules import torch, and not every use of the
package needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invertune.clip.checkpoints import Checkpoint, load_clip, read_checkpoint
    from invertune.clip.models import CLIP
    from invertune.clip.spec import ModelSpec

_MODULES = {
    "CLIP": "models",
    "Checkpoint": "checkpoints",
    "ModelSpec": "spec",
    "load_clip": "checkpoints",
    "read_checkpoint": "checkpoints",
}

__all__ = ["CLIP", "Checkpoint", "ModelSpec", "load_clip", "read_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
