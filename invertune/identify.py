"""Step 1 of InverTune: which class does the backdoor send images to?

An untargeted universal perturbation pushes images away from where they were. On a backdoored
model a disproportionate share of them lands in the backdoor's target, so the target is the class
that gains most: argmax_y P_adv(y) - P_clean(y) (Sun et al., 2026). No one generator of
perturbations raises every backdoor, and with large budgets clean models have favorites too:
several generators with small budgets vote, each weighed by what it does on clean models.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from invertune.data.bundle import CleanData, seeded, to_float
from invertune.defense import Identification, Vote
from invertune.fields import check_shares
from invertune.forms import Form
from invertune.models import CLIP, autocast, encode_images, frequency, zero_shot_classifier
from invertune.optimize import optimize_form
from invertune.triggers import InvertedTrigger

log = logging.getLogger(__name__)


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
    return feature_objective(perturbed, clean) - 0.5 * concentration


OBJECTIVES = {"feature": feature_objective, "concentration": concentration_objective}


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
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        check_shares(self, "clean_gain", one=True)

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


@dataclass(frozen=True)
class TargetIdentification:
    """Find the target label by the votes of several generators.

    Attributes:
        generators: Who votes.
        images: Number of clean images to optimize on and to count.
    """

    generators: Sequence[Perturber]
    images: int

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the class with the largest gain over all generators, and every vote."""
        images = clean.images[: self.images]
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        features = encode_images(model, images).to(model.device)
        before = frequency(features, classifier)
        votes = []
        for generator in self.generators:
            after = torch.zeros_like(before)
            for start in range(generator.starts):
                trigger = generator.perturb(
                    model, images, features, classifier=classifier, seed=seed, start=start
                )
                perturbed = encode_images(model, trigger(to_float(images)))
                after += frequency(perturbed.to(model.device), classifier) / generator.starts
            votes.append(
                Vote(generator.name, before.tolist(), after.tolist(), 1 / generator.clean_gain)
            )
            favorite = int((after - before).argmax())
            log.info(
                "identify: %s raises %r by %.2f",
                generator.name,
                clean.class_names[favorite],
                float((after - before)[favorite]),
            )
        return decide(votes)


def decide(votes: Sequence[Vote]) -> Identification:
    """Return the class that the generators together raise most, and the next one.

    A class's gain is the mean over the generators, by weight, of what each one raises it; what a
    generator lowers counts as 0, for a backdoor need not answer to every kind of perturbation.

    Raises:
        ValueError: If there is no vote.
    """
    if not votes:
        raise ValueError("target identification needs at least one generator")
    raised = torch.tensor([vote.gain for vote in votes]).clamp(min=0)
    weights = torch.tensor([vote.weight for vote in votes])
    gains = weights @ raised / weights.sum()
    first, second = gains.topk(2).indices.tolist()
    return Identification(
        target_label=first,
        gain=float(gains[first]),
        runner_up=second,
        runner_up_gain=float(gains[second]),
        votes=list(votes),
    )
