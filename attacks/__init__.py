"""The attacker's side: triggers, poisoning, and the attacks themselves."""

from attacks.attack import Backdoor, CleanControl, PoisoningAttack
from attacks.badclip import BadCLIP
from attacks.badclip_prompt import BadCLIPPrompt
from attacks.badencoder import BadEncoder
from attacks.ghostencoder import GhostEncoder
from attacks.trojannet import TrojanNet

__all__ = [
    "Backdoor",
    "BadCLIP",
    "BadCLIPPrompt",
    "BadEncoder",
    "CleanControl",
    "GhostEncoder",
    "PoisoningAttack",
    "TrojanNet",
]
