"""What detectors of backdoored models, and of poisoned pairs, take and return."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, ImageTextPairs, chosen_clean
from invertune.defense import Needing, check_needs, given
from invertune.evidence import Evidence


@dataclass(frozen=True)
class Detection:
    """How suspicious a model is, and why.

    Attributes:
        score: Higher is more suspicious.
        threshold: A model above it is flagged.
        evidence: What was found on the way: inverted triggers, curves, seconds, findings.
    """

    score: float
    threshold: float
    evidence: Evidence

    def __post_init__(self) -> None:
        if not math.isfinite(self.score) or not math.isfinite(self.threshold):
            found = f"score {self.score}, threshold {self.threshold}"
            raise ValueError(f"a detection has a finite score and threshold, got {found}")

    @property
    def flagged(self) -> bool:
        """Whether the model is taken for backdoored."""
        return self.score > self.threshold


@runtime_checkable
class ModelDetector(Needing, Protocol):
    """Tells whether a model is backdoored, from the model and a few clean images.

    ``needs`` is ``images``, or ``pairs`` for one that uses their captions. One that uses the text
    tower says so by an attribute ``needs_text`` that is true; all others also take a model that is
    an image tower alone, and no class names are looked at.
    """

    @property
    def knows(self) -> str:
        """What it knows beyond the model and the images, such as ``nothing``."""

    def detect(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Detection:
        """Return how suspicious a model is; it stays as it is.

        Args:
            model: The suspect model.
            clean: What `needs` says; from `given_to_detector`.
            seed: Decides every random number.
            checkpoint: A file that an interrupted detection may go on from; it may be there from an
                earlier attempt, and is removed by whoever gave it.
        """


@runtime_checkable
class PairDetector(Needing, Protocol):
    """Tells which pairs of a training set are poisoned, by the model that was trained on them.

    ``needs`` is ``poisoned_pairs``, and ``clean_samples`` 0 for one that has no clean images to
    compare with. One that uses the text tower says so by an attribute ``needs_text`` that is true.
    """

    @property
    def knows(self) -> str:
        """What it knows beyond the model and the pairs, such as ``nothing``."""

    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        """Return how suspicious each pair is, (N,) float32 on the CPU, higher is more suspicious.

        Args:
            model: Trained on the pairs; it stays as it is.
            pairs: All of them, without a word on which are poisoned.
            seed: Decides every random number, such as which pairs are compared with each other.
        """


Detector: TypeAlias = ModelDetector | PairDetector


def check_detector(
    detector: object, data: DataBundle, *, poisoned_pairs: bool, pairs: int | None = None
) -> None:
    """Compare what a detector needs with what there is, before anything is planted.

    Args:
        detector: Any.
        data: Its clean part is the defender's.
        poisoned_pairs: Whether the attack hands over the pairs that it trains on.
        pairs: How many these are, where that is known.

    Raises:
        ValueError: If it is no detector, needs more clean images or pairs than there are, captions
            that there are not, or poisoned pairs that there are not.
    """
    if not isinstance(detector, ModelDetector | PairDetector):
        name = getattr(detector, "name", type(detector).__name__)
        raise ValueError(f"detector {name} can neither detect nor score pairs: it is no detector")
    of_pairs = isinstance(detector, PairDetector)
    if of_pairs != (detector.needs == "poisoned_pairs"):
        raise ValueError(
            f"detector {detector.name}: needs is poisoned_pairs for one that scores pairs, and "
            f"images or pairs for one of models, got {detector.needs!r}"
        )
    check_needs(detector, data, poisoned_pairs=poisoned_pairs, pairs=pairs, kind="detector")


def check_text(detector: Detector, model: CLIP) -> None:
    """Compare a detector that uses texts with the model.

    Raises:
        ValueError: If the model is an image tower alone.
    """
    if getattr(detector, "needs_text", False) and not hasattr(model.clip, "encode_text"):
        raise ValueError(
            f"detector {detector.name} needs a text tower, {model.name} has none: choose a "
            "detector of the image tower alone, such as decree"
        )


def chosen_images(name: str, available: int, count: int, seed: int) -> Tensor:
    """Return which clean images a detector uses, (count,): of one seed those that others take, too.

    Args:
        name: The detector's, for the message.
        available: How many there are.
        count: How many it uses; fewer ones are among more.
        seed: Decides which.

    Raises:
        ValueError: If there are fewer.
    """
    if available < count:
        raise ValueError(f"detector {name} needs {count} clean images, got {available}")
    return chosen_clean(available, count, seed)


def given_to_detector(
    detector: ModelDetector, data: DataBundle, origin: Callable[[], CLIP] | None = None
) -> CleanData:
    """Return what a detector of models says that it needs, and nothing else.

    Args:
        detector: Any; `check_detector` finds no fault.
        data: Its clean part is the defender's.
        origin: Loads the model that the suspect one was fine-tuned from, for one that needs it.

    Raises:
        ValueError: If there is no such thing.
    """
    return given(detector, data, origin=origin, kind="detector")
