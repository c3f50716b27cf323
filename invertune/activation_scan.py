"""Step 1 by activations: which class do small shifts inside the image tower reach soonest?

For every class one layer's response is shifted, freely at every position, by no more than a share
of what each channel varies by itself; no form of trigger is guessed. A backdoor's target is reached
sooner than other classes. So are the easy classes of a clean model: it makes candidates, no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.encode import zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.evidence import Identification
from invertune.fields import check_counts, check_positive, check_types
from invertune.finite import check_finite
from invertune.neurons import check_layers, choose_layers
from invertune.perturb.shrink import Suspect, at_once
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.work import Work

_LAST = 5  # steps whose losses say how soon a class is reached
_LEAST = 1e-6  # spread of a channel that never answers
_TO_SIGMA = 1.4826  # of the median distance to the median, for a normal law


@dataclass(frozen=True)
class ActivationScan:
    """Shift the responses of layers to every class, and rank the classes by their losses.

    Attributes:
        layers: Which, by name (``layer4``, ``block0``) or by place; or how many, from the first on.
        share: Root mean square of a shift at most, in units of each channel's standard deviation.
        images: Clean images to draw from.
        a_step: Images a class and step.
        steps: Optimizer steps a layer; with many of them all classes are reached.
        lr: Of Adam.
        temperature: Of the cross-entropy; InverTune's L_align has 0.07.
    """

    layers: int | Sequence[int | str]
    share: float
    images: int
    a_step: int
    steps: int
    lr: float
    temperature: float

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "images", "a_step", "steps")
        check_positive(self, "share", "lr", "temperature")
        check_layers(self.layers)

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images

    def work(self, classes: int) -> Work:
        """Return what goes through a model of so many classes, where ``layers`` is a number."""
        layers = self.layers if isinstance(self.layers, int) else len(self.layers)
        return Work(
            forward=self.images * (1 + layers),
            back=layers * classes * self.steps * self.a_step,
            prompts=classes,
        )

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the class that stands out furthest, by the mean over the layers of `standing_out`.

        Raises:
            ValueError: If there are fewer clean images than `samples`, or there is no such layer.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        names = list(model.visual_layers())
        layers = self.layers if not isinstance(self.layers, int) else names[: self.layers]
        chosen = choose_layers(dict.fromkeys(names, 0.0), layers)
        if len(clean.images) < self.images:
            raise ValueError(
                f"images={self.images} clean images are needed, got {len(clean.images)}"
            )
        drawn = torch.randperm(len(clean.images), generator=seeded(seed, "activations", "images"))
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        images = clean.images[drawn[: self.images]]
        suspect = Suspect(model, classifier, images, self.temperature)
        if len(suspect.classes) < 2:
            raise ValueError("the model's texts tell no two classes apart")
        with suspect.ready():
            losses = [self._losses(suspect, layer, seed) for layer in chosen]
        score = torch.stack([standing_out(own) for own in losses]).mean(dim=0)
        order = score.argsort(descending=True, stable=True)
        labels = suspect.classes[order].tolist()
        first, second = score[order[:2]].tolist()
        return Identification(
            labels[0], first, labels[1], second, order=labels, alike=suspect.alike
        )

    def _losses(self, suspect: Suspect, layer: str, seed: int) -> Tensor:
        """Return how far the shifts of a layer are from each class in the end, (K,)."""
        labels, generator = suspect.classes, seeded(seed, "activations", layer)
        spread = self._spread(suspect, layer)
        free = spread.new_zeros(len(labels), *spread.shape).requires_grad_()
        adam, found = torch.optim.Adam([free], lr=self.lr), []
        together = max(1, at_once(suspect.side) // self.a_step)
        parts = torch.arange(len(labels)).split(together)  # type: ignore[no-untyped-call]
        for step in progress(range(self.steps), f"activations {layer}"):
            drawn = torch.randint(
                len(suspect.images), (len(labels), self.a_step), generator=generator
            )
            adam.zero_grad()
            losses = []
            for part in parts:
                shifts = limited(free[part], self.share) * spread
                batch = to_float(suspect.images[drawn[part].flatten()]).to(suspect.model.device)
                with shifted(suspect.model, layer, shifts.repeat_interleave(self.a_step, dim=0)):
                    logits = suspect.similarities(batch) / self.temperature
                wanted = labels[part].repeat_interleave(self.a_step).to(logits.device)
                own = F.cross_entropy(logits, wanted, reduction="none").view(len(part), -1).mean(1)
                check_finite(own.sum(), f"activations {layer}", step)
                own.sum().backward()  # type: ignore[no-untyped-call]
                losses.append(own.detach().cpu())
            found.append(torch.cat(losses))
            adam.step()
        return torch.stack(found[-_LAST:]).mean(dim=0)

    @torch.no_grad()
    def _spread(self, suspect: Suspect, layer: str) -> Tensor:
        """Return each channel's standard deviation over clean images and places, one response."""
        with suspect.model.record([layer]) as outputs:
            suspect.similarities(to_float(suspect.images).to(suspect.model.device))
        response = outputs[layer].float()  # (B, C, H, W) or (B, T, C)
        over = (0, 2, 3) if response.dim() == 4 else (0, 1)
        spread = response.std(dim=over, keepdim=True).clamp_min(_LEAST)
        return spread.expand_as(response[:1])[0].contiguous()


def standing_out(losses: Tensor) -> Tensor:
    """Return how many robust standard deviations each loss, (K,), is below the median."""
    median = losses.median()
    spread = (losses - median).abs().median() * _TO_SIGMA
    return (median - losses) / spread.clamp_min(_LEAST)


def limited(free: Tensor, share: float) -> Tensor:
    """Return each of K tensors, (K, ...), scaled down to a root mean square of ``share``."""
    size = free.flatten(1).pow(2).mean(dim=1).add(_LEAST**2).sqrt()
    return free * (share / size).clamp_max(1).view(-1, *[1] * (free.dim() - 1))


@contextlib.contextmanager
def shifted(model: CLIP, layer: str, shifts: Tensor) -> Iterator[None]:
    """Add ``shifts``, shaped like the response, to what a layer gives, inside the block."""

    def add(_module: object, _inputs: Any, output: Tensor) -> Tensor:
        return output + shifts.to(output.dtype)

    handle = model.visual_layers()[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
