"""Step 2 of InverTune: reconstruct the trigger in pixel and embedding space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from invertune.clip.encode import autocast, encode_images, frequency, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.fields import (
    check_all,
    check_calls,
    check_choices,
    check_counts,
    check_positive,
    check_rates,
    check_shares,
    check_terms,
    check_types,
)
from invertune.losses import (
    alignment_loss,
    embedding_loss,
    mask_loss,
    mask_norm,
    similarity_loss,
)
from invertune.perturb.forms import Form
from invertune.perturb.optimize import optimize_form
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded

log = logging.getLogger(__name__)

# SSIM on a full batch takes longer than the model; the trigger is the same on every image.
_SIMILAR = 8

REFERENCES = ("clean", "target_image")
SIMILARITIES = ("pixels", "normalized")
AREAS = ("sum", "norm")
TERMS = ("align", "emb", "sim", "mask")


@dataclass(frozen=True)
class TriggerInversion:
    """Optimize triggers under L_align, L_emb, L_sim and L_mask (Sun et al., 2026).

    Attributes:
        forms: What the triggers are made of; the paper's is a mask and a pattern.
        starts: Random starts of each form.
        steps: Adam steps.
        lr: Adam's learning rate of each form, by the form's name.
        batch_size: Clean images a step.
        images: Number of clean images to draw from.
        weights: Factors on the four terms: ``align``, ``emb``, ``sim``, ``mask``.
        temperature: L_align's.
        reference: What L_emb stays near: each image's own ``clean`` embedding (the paper's
            reading), or one ``target_image`` (the code's): the clean image that the model itself
            finds nearest to the target's text, since the defender's images have no labels.
        similarity: What L_sim compares: ``pixels`` in [0, 1], of a batch's first eight images, or
            ``normalized`` pixels of all of them (the code's).
        area: What L_mask is: the ``sum`` of the mask, or its L1 ``norm`` (the code's). They differ
            in their gradient where the mask is 0 alone: 1, or 0.
        augment: Changes each batch before the trigger is applied; None leaves it.
        least_success: A trigger that sends fewer of the clean images to the target than this
            share of what the best one sends is dropped. Not every form can express every trigger,
            and tuning on one that does not costs accuracy for nothing.
    """

    forms: Sequence[Form]
    starts: int
    steps: int
    lr: Mapping[str, float]
    batch_size: int
    images: int
    weights: Mapping[str, float]
    temperature: float
    reference: str = "clean"
    similarity: str = "pixels"
    area: str = "sum"
    augment: Any = field(default=None)
    least_success: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        check_rates(self, "lr")
        check_terms(self, "weights", TERMS)
        check_counts(self, "starts", "steps", "batch_size", "images")
        check_positive(self, "temperature")
        check_shares(self, "least_success", zero=True, one=True)
        check_calls(self, "augment", none=True)
        check_all(self, "forms", Form)
        check_choices(self, reference=REFERENCES, similarity=SIMILARITIES, area=AREAS)
        missing = [form.name for form in self.forms if form.name not in self.lr]
        if missing:
            raise ValueError(f"lr needs a learning rate for each form, none for {missing}")

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images

    def __call__(
        self, model: CLIP, clean: CleanData, target_label: int, *, seed: int
    ) -> tuple[list[InvertedTrigger], dict[str, list[float]]]:
        """Return the inverted triggers that succeed, and the loss curves of all."""
        images = clean.images[: self.images]
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        features = encode_images(model, images).to(model.device)
        # No label says which clean image shows the target; the suspect model's own best guess
        # serves.
        nearest = features[(features @ classifier[:, target_label]).argmax()].unsqueeze(0)

        def loss(batch: Tensor, index: Tensor, trigger: InvertedTrigger) -> Tensor:
            reference = features[index] if self.reference == "clean" else nearest
            return self._loss(model, batch, trigger, reference, classifier, target_label)

        found, curves = [], {}
        for start in progress(range(self.starts), "invert"):
            for form in progress(self.forms, "invert"):
                trigger, losses = optimize_form(
                    model,
                    images,
                    form,
                    loss,
                    steps=self.steps,
                    lr=self.lr[form.name],
                    batch_size=self.batch_size,
                    stage="invert",
                    augment=self.augment,
                    generator=seeded(seed, "invert", form.name, start),
                )
                z = encode_images(model, images, trigger=trigger).to(model.device)
                success = float(frequency(model, z, classifier)[target_label])
                log.info("invert: %s sends %.2f of the images to the target", form.name, success)
                found.append((success, trigger))
                curves[f"invert {form.name} {start}"] = losses
        # Relative to the best, for a trigger of a weak backdoor never sends all images.
        best = max(success for success, _ in found)
        least = self.least_success * best
        return [trigger for success, trigger in found if success >= least], curves

    def _loss(
        self,
        model: CLIP,
        batch: Tensor,
        trigger: InvertedTrigger,
        reference: Tensor,
        classifier: Tensor,
        target_label: int,
    ) -> Tensor:
        triggered = trigger(batch)
        with autocast(model.device):
            z = model.encode_image(triggered)
        align = alignment_loss(z, classifier, target_label, self.temperature)
        total = self.weights["align"] * align
        # A term without weight is not computed: some are dear, SSIM above all.
        if self.weights["emb"]:
            total = total + self.weights["emb"] * embedding_loss(z, reference)
        if self.weights["sim"]:
            total = total + self.weights["sim"] * self._similarity(model, triggered, batch)
        if self.weights["mask"]:
            area = mask_norm if self.area == "norm" else mask_loss
            total = total + self.weights["mask"] * area(trigger.mask)
        return total

    def _similarity(self, model: CLIP, triggered: Tensor, clean: Tensor) -> Tensor:
        if self.similarity == "normalized":
            return similarity_loss(model.normalize(triggered), model.normalize(clean))
        return similarity_loss(triggered[:_SIMILAR], clean[:_SIMILAR])
