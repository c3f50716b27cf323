"""The defender's library: CLIP models, data, training, and InverTune's steps.

The names below are loaded when first used: their modules import torch, and not every use of the
package needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invertune.activation_scan import ActivationScan
    from invertune.defense import Defense, NoDefense, Purified
    from invertune.detector import Detection, ModelDetector, PairDetector
    from invertune.evidence import Evidence
    from invertune.identify import TargetIdentification
    from invertune.invert import TriggerInversion
    from invertune.invertune import InverTune
    from invertune.probing import RandomProbes
    from invertune.shrinking_inversion import ShrinkingInversion
    from invertune.survival import SurvivalScan
    from invertune.tune import ActivationTuning
    from invertune.verify import Gumbel, Verification

_MODULES = {
    "ActivationScan": "activation_scan",
    "ActivationTuning": "tune",
    "Defense": "defense",
    "Detection": "detector",
    "Evidence": "evidence",
    "Gumbel": "verify",
    "InverTune": "invertune",
    "ModelDetector": "detector",
    "NoDefense": "defense",
    "PairDetector": "detector",
    "Purified": "defense",
    "RandomProbes": "probing",
    "ShrinkingInversion": "shrinking_inversion",
    "SurvivalScan": "survival",
    "TargetIdentification": "identify",
    "TriggerInversion": "invert",
    "Verification": "verify",
}

__all__ = [
    "ActivationScan",
    "ActivationTuning",
    "Defense",
    "Detection",
    "Evidence",
    "Gumbel",
    "InverTune",
    "ModelDetector",
    "NoDefense",
    "PairDetector",
    "Purified",
    "RandomProbes",
    "ShrinkingInversion",
    "SurvivalScan",
    "TargetIdentification",
    "TriggerInversion",
    "Verification",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
