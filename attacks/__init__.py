"""The attacker's side: triggers, poisoning, and the attacks themselves."""

from attacks.attack import Backdoor, CleanControl, PoisoningAttack

__all__ = ["Backdoor", "CleanControl", "PoisoningAttack"]
