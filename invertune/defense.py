"""What every defense takes and returns."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, ImageTextPairs
from invertune.evidence import Evidence
from invertune.training.execution import current
from invertune.training.objective import check_objective
from invertune.training.recipe import Recipe

NEEDS = ("images", "pairs", "poisoned_pairs")


@dataclass(frozen=True)
class Purified:
    """A repaired copy of the model, and what was found on the way.

    Attributes:
        model: The copy.
        evidence: What was found.
        steps: Optimizer steps that changed its weights.
    """

    model: CLIP
    evidence: Evidence
    steps: int = 0


@dataclass(frozen=True)
class Training:
    """One training of a defense.

    Attributes:
        recipe: How it trains.
        objective: What it minimizes, or its class, as `check_objective` takes it; None for the
            contrastive loss.
    """

    recipe: Recipe
    objective: object = None


class Needing(Protocol):
    """What says what it needs, a defense or a detector.

    Attributes:
        name: Name in results.

    One that compares classes says how many there are at least, by an attribute ``least_classes``,
    and one that takes poisoned pairs, how many make a batch, by ``least_pairs``; one that
    is given the model that the suspect one was fine-tuned from (`CleanData.origin`), by an
    attribute ``needs_origin`` that is true.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> str:
        """What it is given beside the model: clean ``images``; ``pairs``, which are clean images
        with captions; or ``poisoned_pairs``, which are clean images and what the suspect model was
        fine-tuned on, for a defense that trains anew.
        """

    @property
    def clean_samples(self) -> int:
        """Number of clean images that it uses."""


class Defense(Needing, Protocol):
    """Repairs a suspect model from a few clean images.

    One that trains by `invertune.training.train` says so by a method ``trainings``, which returns a
    list of `Training`: what cannot be computed as it is asked for is then said before all work.
    """

    @property
    def knows(self) -> str:
        """What it knows beyond the model and the images, such as ``class names``."""

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a repaired copy; ``model`` itself stays as it is.

        Args:
            model: The suspect model.
            clean: What `needs` says; from `given`.
            seed: Decides every random number.
            checkpoint: A file that an interrupted repair goes on from, such as
                `invertune.training.train` makes; it may be there from an earlier attempt, and is
                removed by whoever gave it.
        """


class Searching(ABC):
    """A defense in two steps, of which the first may serve many a second one."""

    @abstractmethod
    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return what is found of a backdoor; ``model`` stays as it is."""

    @abstractmethod
    def repair(
        self,
        model: CLIP,
        clean: CleanData,
        found: Evidence,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Purified:
        """Return a repaired copy, given what `search` found; ``model`` stays as it is."""

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a repaired copy and the evidence of both steps; ``model`` stays as it is.

        Raises:
            ValueError: If there are fewer clean images than a step needs.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        found = self.search(model, clean, seed=seed)
        return self.repair(model, clean, found, seed=seed, checkpoint=checkpoint)


@dataclass(frozen=True)
class NoDefense:
    """Return the model as it is: the row that every defense is compared with."""

    name: str = "none"
    needs: str = "images"
    clean_samples: int = 0
    knows: str = "nothing"

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return an unchanged copy."""
        return Purified(copy.deepcopy(model), Evidence())


def check_needs(
    defense: Needing,
    data: DataBundle,
    *,
    poisoned_pairs: bool,
    pairs: int | None = None,
    kind: str = "defense",
) -> None:
    """Compare what a defense needs with what there is, before anything is planted or repaired.

    Args:
        defense: Any.
        data: Its clean part is the defender's.
        poisoned_pairs: Whether the attack hands over the pairs that it trains on.
        pairs: How many these are, where that is known.
        kind: What it is, in messages: ``defense`` or ``detector``.

    Raises:
        ValueError: If it needs more images, classes or pairs than there are, captions that there
            are not, or poisoned pairs that there are not.
    """
    name, available = defense.name, len(data.ids("clean"))
    if defense.needs not in NEEDS:
        raise ValueError(
            f"{kind} {name}: needs is one of {', '.join(NEEDS)}, got {defense.needs!r}"
        )
    if defense.clean_samples > available:
        raise ValueError(
            f"{kind} {name} needs {defense.clean_samples} clean images, {data.name} has "
            f"{available}: take fewer, or more data"
        )
    least, classes = getattr(defense, "least_classes", 0), len(data.class_names)
    if least > classes:
        raise ValueError(f"{kind} {name} compares {least} classes, {data.name} has {classes}")
    if defense.needs == "pairs" and data.clean_captions is None:
        raise ValueError(
            f"{kind} {name} needs pairs, but the clean images of {data.name} have no captions: "
            f"choose a {kind} that needs images, or data with captions"
        )
    if defense.needs == "poisoned_pairs" and not poisoned_pairs:
        of = (
            f"{name} is a training-time defense, which trains anew on what the victim trains on, "
            "and repairs no finished model"
            if kind == "defense"
            else f"{name} tells poisoned pairs from others"
        )
        raise ValueError(
            f"{kind} {name} needs poisoned_pairs, but the attack trains on no pairs: {of}; "
            f"choices: an attack that poisons pairs, as badnet and blended do, or a {kind} whose "
            "needs are images or pairs"
        )
    batch = getattr(defense, "least_pairs", 0)
    if defense.needs == "poisoned_pairs" and pairs is not None and pairs < batch:
        raise ValueError(
            f"{kind} {name} takes batches of {batch} pairs, the attack trains on {pairs}: "
            "take a smaller batch, or more pairs"
        )


def check_trainings(defense: object, build: Callable[[], CLIP], stage: str) -> None:
    """Find out whether what a defense trains can be computed as the execution in use has it.

    Args:
        defense: Any; one without ``trainings`` has nothing to check.
        build: Makes a model of the suspect one's architecture; called where it matters alone.
        stage: Name in the messages.

    Raises:
        ValueError: If it would be another training.
    """
    execution, trainings = current(), getattr(defense, "trainings", None)
    if trainings is None or (execution.chunk is None and execution.ranks.size == 1):
        return
    model = build()
    for training in trainings():
        execution.check_model(model, training.recipe.freeze_batch_norm, stage)
        if training.objective is not None:
            check_objective(training.objective, training.recipe, stage)


def given(
    defense: Needing,
    data: DataBundle,
    poisoned: Callable[[], ImageTextPairs] | None = None,
    origin: Callable[[], CLIP] | None = None,
    kind: str = "defense",
) -> CleanData:
    """Return what a defense says that it needs, and nothing else.

    Args:
        defense: Any; `check_needs` finds no fault.
        data: Its clean part is the defender's.
        poisoned: Makes the pairs that the suspect model was fine-tuned on, for a defense that
            needs ``poisoned_pairs``.
        origin: Loads the model that the suspect one was fine-tuned from, for one that needs it.
        kind: What it is, in messages: ``defense`` or ``detector``.

    Raises:
        ValueError: If there is no such thing.
    """
    clean = data.captioned_clean if defense.needs == "pairs" else data.clean
    if defense.needs == "poisoned_pairs":
        if poisoned is None:
            raise ValueError(f"{kind} {defense.name} needs poisoned_pairs, got none")
        clean = dataclasses.replace(clean, suspects=poisoned())
    if getattr(defense, "needs_origin", False):
        if origin is None:
            raise ValueError(f"{kind} {defense.name} needs the original model, got none")
        clean = dataclasses.replace(clean, origin=origin())
    return clean
