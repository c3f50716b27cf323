"""The attacker's side: triggers, poisoning, and the attacks themselves."""

from attacks.attack import Backdoor, CleanControl, PoisoningAttack
from attacks.badclip import BadCLIP, PatchOptimization
from attacks.badclip_prompt import BadCLIPPrompt
from attacks.badencoder import BadEncoder
from attacks.ghostencoder import GhostEncoder, HidingTraining
from attacks.trojannet import TrojanNet

__all__ = [
    "Backdoor",
    "BadCLIP",
    "BadCLIPPrompt",
    "BadEncoder",
    "CleanControl",
    "GhostEncoder",
    "HidingTraining",
    "PatchOptimization",
    "PoisoningAttack",
    "TrojanNet",
]
