"""Universal perturbations that push images away from where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.fields import (
    check_all,
    check_counts,
    check_is,
    check_positive,
    check_shares,
    check_types,
)
from invertune.perturb.forms import Form
from invertune.perturb.optimize import optimize_form
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded


def feature_objective(perturbed: Tensor, clean: Tensor) -> Tensor:
    """Return the mean cosine between perturbed and clean embeddings, a scalar to minimize.

    Args:
        perturbed, clean: (B, D), unit norm, of the same images.
    """
    return (perturbed * clean).sum(dim=-1).mean()


def concentration_objective(perturbed: Tensor, clean: Tensor) -> Tensor:
    """Return the feature objective minus half the norm of the mean perturbed embedding, a scalar.

    Away from where the images were, and all to one place: where a backdoor sends them.

    Args:
        perturbed, clean: (B, D), unit norm, of the same images.
    """
    concentration: Tensor = perturbed.mean(dim=0).norm()
    # Unit vectors that agree have a long mean: its length rewards one common place, whichever it
    # is.
    return feature_objective(perturbed, clean) - 0.5 * concentration


OBJECTIVES = {"feature": feature_objective, "concentration": concentration_objective}


@runtime_checkable
class Perturber(Protocol):
    """What makes an untargeted universal perturbation and votes.

    Attributes:
        name: Name in results.
        starts: Random starts; the class frequencies are averaged over them.
        clean_gain: The gain that it gives its favorite class on clean models; its votes are read in
            multiples of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def starts(self) -> int: ...

    @property
    def clean_gain(self) -> float: ...

    def check_images(self, count: int, name: str) -> None:
        """Compare the number of images that `perturb` will get with what it needs.

        Raises:
            ValueError: If there are too few; ``name`` says for what.
        """

    def perturb(
        self,
        model: CLIP,
        images: Tensor,
        features: Tensor,
        *,
        classifier: Tensor,
        seed: int,
        start: int,
    ) -> InvertedTrigger:
        """Return a perturbation of images, (N, 3, H, W) uint8, with clean ``features``, (N, D).

        Args:
            model: Stays as it is.
            images, features: What to perturb, and where the model puts it.
            classifier: (D, C) zero-shot classifier, for perturbers that need texts.
            seed, start: Decide every random number.
        """


def check_generators(of: Any) -> None:
    """Compare the fields ``generators`` and ``images`` with what perturbers need.

    Raises:
        ValueError: If one is no list of them or no count, or there are fewer images than one needs.
    """
    check_all(of, "generators", Perturber)
    check_counts(of, "images")
    for generator in of.generators:
        generator.check_images(of.images, generator.name)


@dataclass(frozen=True)
class Generator:
    """A `Perturber` that optimizes a form's free tensors directly.

    Attributes:
        name: Name in results.
        form: What the perturbation is made of.
        objective: One of `OBJECTIVES`.
        steps: Adam steps.
        lr: Adam's learning rate.
        batch_size: Clean images a step.
        starts: Random starts; the class frequencies are averaged over them.
        clean_gain: The gain that this generator gives its favorite class on clean models; its
            votes are read in multiples of it.
    """

    name: str
    form: Form
    objective: str
    steps: int
    lr: float
    batch_size: int
    starts: int
    clean_gain: float

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "form", Form)
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        check_shares(self, "clean_gain", one=True)
        check_counts(self, "steps", "batch_size", "starts")
        check_positive(self, "lr")

    def check_images(self, count: int, name: str) -> None:
        """Take any number: a batch is drawn with replacement."""

    def perturb(
        self,
        model: CLIP,
        images: Tensor,
        features: Tensor,
        *,
        classifier: Tensor,
        seed: int,
        start: int,
    ) -> InvertedTrigger:
        """Return a perturbation of images, (N, 3, H, W) uint8, with clean ``features``, (N, D)."""
        # Untargeted by construction: it is not even told which classes there are.
        del classifier
        objective = OBJECTIVES[self.objective]
        generator = seeded(seed, "identify", self.name, start)

        def loss(batch: Tensor, index: Tensor, trigger: InvertedTrigger) -> Tensor:
            with autocast(model.device):
                perturbed = model.encode_image(trigger(batch))
            return objective(perturbed, features[index])

        return optimize_form(
            model,
            images,
            self.form,
            loss,
            steps=self.steps,
            lr=self.lr,
            batch_size=self.batch_size,
            generator=generator,
            stage="identify",
        )[0]
