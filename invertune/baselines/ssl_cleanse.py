"""SSL-Cleanse's repair: what a triggered image is to be, a frozen copy of the encoder says."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from invertune.baselines.augment import ImageAugmentation
from invertune.baselines.pairs import repaired, without_captions
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.defense import Purified, Searching, Training
from invertune.detectors.ssl_cleanse import SSLCleanse
from invertune.evidence import Evidence
from invertune.fields import check_calls, check_is, check_terms, check_types
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.work import Work

TERMS = ("clean", "triggered")


def consistency_loss(
    clean: Tensor, triggered: Tensor, wanted: Tensor, weights: Mapping[str, float]
) -> Tensor:
    """Return the weighed sum of the squared distances to the teacher, a scalar.

    Of unit vectors a squared distance is 2 - 2 cosine, SSL-Cleanse's L1 and L4.

    Args:
        clean, triggered: (B, D), unit norm, the student's, of the same images without and with the
            trigger.
        wanted: (B, D), unit norm, the teacher's, of the images without it.
        weights: Of the terms ``clean`` and ``triggered``.
    """
    found = {"clean": clean, "triggered": triggered}
    distances = {
        name: (features - wanted).square().sum(dim=1).mean() for name, features in found.items()
    }
    return torch.stack([weights[name] * distances[name] for name in TERMS]).sum()


@dataclass(frozen=True)
class Consistency:
    """What the training minimizes.

    Attributes:
        teacher: The suspect model; it stays as it is.
        trigger: The inverted one.
        weights: Of the terms.
        augment: Changes the images before anybody sees them.
        seed: Decides how.
    """

    teacher: CLIP
    trigger: InvertedTrigger
    weights: Mapping[str, float]
    augment: ImageAugmentation
    seed: int

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        images = self.augment(batch.images, seeded(self.seed, "consistency", batch.step))
        with torch.no_grad():
            wanted = self.teacher.encode_image(images)
        both = model.encode_image(torch.cat([images, self.trigger(images)]))
        clean, triggered = both[: len(images)], both[len(images) :]
        return consistency_loss(clean, triggered, wanted, self.weights)


@dataclass(frozen=True)
class SSLCleansing(Searching):
    """Invert the most suspicious cluster's trigger, then teach the encoder not to mind it.

    The student begins as the suspect encoder; the teacher is that encoder and never moves, as with
    the README's ``--byol_tau 1``. A triggered image is compared with the same image without the
    trigger. The released code compares it with another one, which is what a backdoor does; the
    method's words ask for the same. Heads and predictor, which BYOL needs against a collapse, are
    left out: beside a teacher that stands still there is none. Both see the same view, so that the
    clean term is 0 at the start and keeps the alignment with the texts. The repair takes place
    whatever the detector's verdict is; where it found no trigger at all, the model stays as it is.

    Attributes:
        name: Name in results.
        detect: Finds the trigger, and says which images are used.
        recipe: How to train the image tower.
        weights: Of the terms ``clean`` and ``triggered``.
        augment: Makes the views.
    """

    name: str
    detect: SSLCleanse
    recipe: Recipe
    weights: Mapping[str, float]
    augment: ImageAugmentation
    needs: str = "images"
    knows: str = "nothing"

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "detect", SSLCleanse)
        check_is(self, "recipe", Recipe)
        self.recipe.check_pairs(self.detect.images, self.name)
        check_calls(self, "augment")
        check_terms(self, "weights", TERMS)
        if not self.recipe.freeze_text:
            raise ValueError("recipe.freeze_text is true: no text is looked at, got False")

    @property
    def clean_samples(self) -> int:
        """The detector's images."""
        return self.detect.images

    def work(self, _classes: int) -> dict[str, Work]:
        """Return what goes through the model in both stages."""
        steps = self.recipe.steps(self.detect.images)
        seen = steps * self.recipe.batch_size
        return {
            "search": self.detect.work(0)["detect"],
            "purify": Work(forward=seen, trained=2 * seen, steps=steps),
        }

    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return the trigger of the least cluster, with the anomaly index that it has."""
        found = self.detect.detect(model, clean, seed=seed)
        findings = {**found.evidence.findings, "anomaly": found.score, "flagged": found.flagged}
        return replace(found.evidence, findings=findings)

    def repair(
        self,
        model: CLIP,
        clean: CleanData,
        found: Evidence,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Purified:
        """Return a repaired copy, given what `search` found; ``model`` stays as it is.

        Raises:
            ValueError: If there are fewer images than one batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        if not found.triggers:
            return Purified(copy.deepcopy(model).eval(), found)
        model.eval()
        purified = repaired(
            model,
            self._images(clean, seed),
            self.recipe,
            seed=seed,
            checkpoint=checkpoint,
            objective=Consistency(model, found.triggers[0], self.weights, self.augment, seed),
        )
        own = purified.evidence
        evidence = replace(
            found, curves=found.curves | own.curves, seconds=found.seconds | own.seconds
        )
        return replace(purified, evidence=evidence)

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe, Consistency)]

    def _images(self, clean: CleanData, seed: int) -> ImageTextPairs:
        """Return the images that the trigger was found on."""
        return without_captions(clean.images.take(self.detect.chosen(len(clean.images), seed)))
