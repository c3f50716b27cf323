"""The defender's library: CLIP models, data, training, and InverTune's steps.

The names below are loaded when first used: their modules import torch, and not every use of the
package needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invertune.defense import Defense, NoDefense, Purified
    from invertune.evidence import Evidence
    from invertune.identify import TargetIdentification
    from invertune.invert import TriggerInversion
    from invertune.invertune import InverTune
    from invertune.tune import ActivationTuning

_MODULES = {
    "ActivationTuning": "tune",
    "Defense": "defense",
    "Evidence": "evidence",
    "InverTune": "invertune",
    "NoDefense": "defense",
    "Purified": "defense",
    "TargetIdentification": "identify",
    "TriggerInversion": "invert",
}

__all__ = [
    "ActivationTuning",
    "Defense",
    "Evidence",
    "InverTune",
    "NoDefense",
    "Purified",
    "TargetIdentification",
    "TriggerInversion",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
