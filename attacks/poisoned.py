"""Poisoned pairs: what an attacker hands to whoever trains on them."""

from __future__ import annotations

from dataclasses import dataclass

from attacks.triggers import Trigger
from invertune.data.bundle import ImageTextPairs


@dataclass(frozen=True)
class Poisoned:
    """Pairs to train on, and what only the attacker knows of them.

    Who defends while training gets ``pairs`` and nothing else.

    Attributes:
        pairs: All of them, the poisoned ones in their places.
        positions: Places of the poisoned ones, sorted; none for a clean control.
        trigger: Stamped the poisoned images; None where there are none.
        target_label: Index of the class that their captions name; None likewise.
    """

    pairs: ImageTextPairs
    positions: list[int]
    trigger: Trigger | None
    target_label: int | None
