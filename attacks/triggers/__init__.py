"""Triggers: callables that stamp images."""

from attacks.triggers.additive import AdditiveTrigger
from attacks.triggers.base import (
    Trigger,
    load_trigger,
    round_to_8_bit,
    save_trigger,
    trigger_state,
    trigger_tensors,
)
from attacks.triggers.blended import BlendedTrigger
from attacks.triggers.code import CodeTrigger
from attacks.triggers.hidden import HiddenTrigger
from attacks.triggers.patch import PatchTrigger
from attacks.triggers.sig import SinusoidalTrigger
from attacks.triggers.stamp import StampTrigger
from attacks.triggers.warp import WarpTrigger

__all__ = [
    "AdditiveTrigger",
    "BlendedTrigger",
    "CodeTrigger",
    "HiddenTrigger",
    "PatchTrigger",
    "SinusoidalTrigger",
    "StampTrigger",
    "Trigger",
    "WarpTrigger",
    "load_trigger",
    "round_to_8_bit",
    "save_trigger",
    "trigger_state",
    "trigger_tensors",
]
