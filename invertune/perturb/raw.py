"""Step 2 left out: step 1's perturbations stand in for the inverted trigger (an ablation)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.fields import check_types
from invertune.perturb.perturber import Perturber, check_generators
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawPerturbation:
    """Take the universal perturbations as they are; stands in place of `TriggerInversion`.

    With step 1's own generators, images and seed they are the very perturbations that voted for
    the target. They were made without a target, so they do not depend on it.

    Attributes:
        generators: Those of step 1.
        images: Number of clean images to optimize on.
    """

    generators: Sequence[Perturber]
    images: int

    def __post_init__(self) -> None:
        check_types(self)
        check_generators(self)
        if not self.generators:
            raise ValueError("a raw perturbation needs at least one generator, got none")

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images

    def __call__(
        self, model: CLIP, clean: CleanData, target_label: int, *, seed: int
    ) -> tuple[list[InvertedTrigger], dict[str, list[float]]]:
        """Return one perturbation of each generator and start, and no curves."""
        # The signature is that of `TriggerInversion`, in whose place it stands.
        del target_label
        images = clean.images[: self.images]
        features = encode_images(model, images).to(model.device)
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        found = [
            generator.perturb(
                model, images, features, classifier=classifier, seed=seed, start=start
            )
            for generator in progress(self.generators, "invert")
            for start in progress(range(generator.starts), generator.name)
        ]
        log.info("invert: left out, %d raw perturbations", len(found))
        return found, {}
