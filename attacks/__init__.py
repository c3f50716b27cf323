"""The attacker's side: triggers, poisoning, and the attacks themselves."""

from attacks.attack import Attack, Backdoor, Plan
from attacks.badclip import BadCLIP
from attacks.badclip_patch import PatchOptimization
from attacks.badclip_prompt import BadCLIPPrompt
from attacks.badencoder import BadEncoder
from attacks.fine_tuning import CleanControl, PoisoningAttack
from attacks.ghostencoder import GhostEncoder, HidingTraining
from attacks.poisoned import Poisoned
from attacks.trojannet import TrojanNet

__all__ = [
    "Attack",
    "Backdoor",
    "BadCLIP",
    "BadCLIPPrompt",
    "BadEncoder",
    "CleanControl",
    "GhostEncoder",
    "HidingTraining",
    "PatchOptimization",
    "Plan",
    "Poisoned",
    "PoisoningAttack",
    "TrojanNet",
]
