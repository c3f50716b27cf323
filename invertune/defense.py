"""What every defense takes and returns."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Protocol

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Evidence


@dataclass(frozen=True)
class Purified:
    """A repaired copy of the model, and what was found on the way."""

    model: CLIP
    evidence: Evidence


class Defense(Protocol):
    """Repairs a suspect model from a few clean images.

    Attributes:
        name: Name in results.
    """

    @property
    def name(self) -> str: ...

    @property
    def clean_samples(self) -> int:
        """Number of clean images that it uses."""

    @property
    def knows(self) -> str:
        """What it knows beyond the model and the images, such as ``class names``."""

    def purify(self, model: CLIP, clean: CleanData, *, seed: int) -> Purified:
        """Return a repaired copy; ``model`` itself stays as it is."""


@dataclass(frozen=True)
class NoDefense:
    """Return the model as it is: the row that every defense is compared with."""

    name: str = "none"
    clean_samples: int = 0
    knows: str = "nothing"

    def purify(self, model: CLIP, clean: CleanData, *, seed: int) -> Purified:
        """Return an unchanged copy."""
        return Purified(copy.deepcopy(model), Evidence())
