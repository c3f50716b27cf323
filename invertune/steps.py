"""What InverTune's steps are, for whoever writes another one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Identification
from invertune.perturb.triggers import InvertedTrigger


@runtime_checkable
class CandidateSource(Protocol):
    """Step 1: names the classes that a backdoor may send images to."""

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the classes, most suspicious first; ``model`` stays as it is."""


@runtime_checkable
class Inversion(Protocol):
    """Step 2: reconstructs the trigger of a class."""

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""

    def __call__(
        self, model: CLIP, clean: CleanData, target_label: int, *, seed: int
    ) -> tuple[list[InvertedTrigger], dict[str, list[float]]]:
        """Return triggers, at least one, and loss curves by name; ``model`` stays as it is."""


@runtime_checkable
class Refreshing(Protocol):
    """An inversion whose triggers can follow a model that is being tuned."""

    def refresh(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        stage: str,
    ) -> list[InvertedTrigger]:
        """Return triggers optimized further, against ``model``."""


@dataclass
class Clock:
    """Seconds by step; what is done several times adds up, and inside another step counts once."""

    seconds: dict[str, float] = field(default_factory=dict)
    counted: float = 0.0

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count the block to a step."""
        start, before = time.perf_counter(), self.counted
        yield
        took = time.perf_counter() - start
        self.seconds[step] = self.seconds.get(step, 0.0) + took - (self.counted - before)
        self.counted = before + took
