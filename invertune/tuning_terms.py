"""Terms of the loss while a model is tuned: what is compared with the model as it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invertune.clip.encode import autocast
from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.losses import (
    cross_modal_loss,
    embedding_loss,
    mean_response_loss,
    preservation_loss,
    response_loss,
)

TERMS = ("activation", "embedding", "preserve", "distance", "cross_modal")


class Seen(NamedTuple):
    """What a model makes of a batch.

    Attributes:
        responses: Layer -> its responses, (B, ...).
        features: (B, D), unit norm.
    """

    responses: dict[str, Tensor]
    features: Tensor

    def part(self, rows: slice | Tensor) -> Seen:
        """Return what it makes of some of the images."""
        return Seen({name: r[rows] for name, r in self.responses.items()}, self.features[rows])


@dataclass(frozen=True)
class TuningTerms:
    """The terms of one step, of a batch of clean images and the same images with a trigger.

    Attributes:
        original: The model as it came, in evaluation mode.
        tuned: The copy that moves.
        masks: Layer -> mask of its neurons.
        classifier: (D, C) zero-shot classifier of both.
        weights: Factors on the terms; one whose factor is 0 is not computed.
        match, passes, temperature: As `ActivationTuning` has them.
        fired: Classes whose images are left out where it is the augmentation that makes the
            original see them.
    """

    original: CLIP
    tuned: CLIP
    masks: Mapping[str, Tensor]
    classifier: Tensor
    weights: Mapping[str, float]
    match: str
    passes: str
    temperature: float
    fired: Sequence[int] = ()

    @torch.no_grad()
    def shows(self, images: Tensor, at_once: int = 64) -> Tensor:
        """Return whether the original sees one of the ``fired`` classes, (N,) of bool."""
        parts = images.split(at_once)  # type: ignore[no-untyped-call]
        return torch.cat([self._shown(self._see(self.original, part).features) for part in parts])

    def __call__(
        self, batch: Tensor, triggered: Tensor, shown: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms whose weight is not 0, scalars without their factors.

        Args:
            batch: (B, 3, H, W), clean images as they are augmented.
            triggered: The same with a trigger.
            shown: (B,) what `shows` says of the images before they were augmented; None leaves
                none out.
        """
        with torch.no_grad():
            wanted = self._see(self.original, batch)
        clean, fired = self._now(batch, triggered)
        if shown is not None:
            kept = shown | ~self._shown(wanted.features)
            if not kept.all() and kept.any():
                wanted, clean, fired = (seen.part(kept) for seen in (wanted, clean, fired))
        before, after = wanted.features, clean.features
        terms: dict[str, Callable[[], Tensor]] = {
            "activation": lambda: self._activation(clean, fired, wanted),
            "embedding": lambda: preservation_loss(fired.features, before),
            "preserve": lambda: preservation_loss(after, before),
            "distance": lambda: embedding_loss(after, before),
            "cross_modal": lambda: cross_modal_loss(
                after, before, self.classifier, self.temperature
            ),
        }
        return {name: term() for name, term in terms.items() if self.weights[name]}

    def _shown(self, features: Tensor) -> Tensor:
        predicted = self.original.similarities(features, self.classifier).argmax(dim=-1)
        return torch.isin(predicted, torch.tensor(self.fired).to(predicted))

    def _see(self, model: CLIP, images: Tensor) -> Seen:
        with folded(model), autocast(model.device), model.record(list(self.masks)) as responses:
            features = model.encode_image(images)
        return Seen({name: response.float() for name, response in responses.items()}, features)

    def _now(self, batch: Tensor, triggered: Tensor) -> tuple[Seen, Seen]:
        """Return what the tuned model makes of the clean and of the triggered images."""
        if self.passes == "joint":
            both, count = self._see(self.tuned, torch.cat([batch, triggered])), len(batch)
            return both.part(slice(count)), both.part(slice(count, None))
        clean, fired = self._see(self.tuned, batch), self._see(self.tuned, triggered)
        if self.tuned.training:
            # The code embeds the clean images once more. Nothing of it is new but what BatchNorm's
            # running statistics, which the repaired model keeps, make of the batch.
            with torch.no_grad():
                self._see(self.tuned, batch)
        return clean, fired

    def _activation(self, clean: Seen, fired: Seen, wanted: Seen) -> Tensor:
        parts = []
        for name, mask in self.masks.items():
            response = fired.responses[name]
            if self.match == "sample":
                parts.append(response_loss(response, wanted.responses[name], mask))
            else:
                parts.append(mean_response_loss(response, clean.responses[name], mask))
        return torch.stack(parts).sum()
