"""Triggers: callables that stamp images."""

from attacks.triggers.base import Trigger, load_trigger, round_to_8_bit, trigger_state
from attacks.triggers.blended import BlendedTrigger
from attacks.triggers.patch import PatchTrigger
from attacks.triggers.sig import SinusoidalTrigger

__all__ = [
    "BlendedTrigger",
    "PatchTrigger",
    "SinusoidalTrigger",
    "Trigger",
    "load_trigger",
    "round_to_8_bit",
    "trigger_state",
]
