"""Step 3 of InverTune: find the neurons that the trigger fires, and tune them quiet."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invertune.clip.encode import autocast, zero_shot_classifier
from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.fields import check_calls, check_choices, check_numbers, check_types
from invertune.finite import check_finite
from invertune.losses import (
    cross_modal_loss,
    embedding_loss,
    mean_response_loss,
    preservation_loss,
    response_loss,
)
from invertune.neurons import (
    choose_layers,
    layer_responses,
    neuron_mask,
    response_divergence,
)
from invertune.perturb.optimize import fast_attention
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.tuned_weights import Best, Mean, TuningState, cosine, trainable

log = logging.getLogger(__name__)

UNITS = ("channel", "position")
UPDATES = ("neurons", "layers", "all")
MATCHES = ("sample", "batch_mean")
SCHEDULES = ("cosine", "bounce")
TERMS = ("activation", "embedding", "preserve", "distance", "cross_modal")


@dataclass(frozen=True)
class Tuned:
    """The repaired model and how it came about; see `invertune.evidence.Evidence`."""

    model: CLIP
    divergence: dict[str, float]
    layers: list[str]
    neurons: dict[str, list[int]]
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class ActivationTuning:
    """Rank layers, cluster neurons, and tune on one batch of clean images (Sun et al., 2026).

    Attributes:
        samples: Size of the one batch of clean images.
        steps: Optimizer steps.
        lr: Peak learning rate of AdamW.
        weight_decay: AdamW's; masked-out weights never decay.
        layers: Number of layers kept, most divergent first; or a list that chooses them by name
            (``layer4``, ``block0``) or by place (0 is the first, -1 the last).
        clusters: K of the K-means; the cluster of largest mean difference is the backdoor's.
        unit: What a neuron is: a ``channel`` (a hidden unit of a ViT), or a ``position`` of the
            response (the code's reading).
        update: Which weights move: those of the chosen ``neurons``, of the chosen ``layers``, or
            ``all`` of the image tower (the code's reading).
        match: Bring each ``sample``'s triggered response to the original model's response to the
            same image without trigger, or the ``batch_mean`` of triggered responses to that of
            clean ones in the tuned model (the code's).
        schedule: ``cosine`` to 0, or ``bounce``: the code's cosine of half the steps, down to
            lr / 20 and up again.
        batch_norm: ``frozen``, or ``batch``: train mode, as the code has it.
        clip: Largest gradient norm; None for no limit.
        weights: Factors on the terms: ``activation``, ``embedding`` (1 - cosine of triggered to
            original clean embeddings), ``preserve`` (1 - cosine of clean embeddings to the
            original's), ``distance`` (root mean square distance of the same; the code's
            Frobenius norm over 64 images is 8 times that), ``cross_modal`` (divergence of the
            similarities to all class texts).
        temperature: Of the cross-modal term.
        average_from: The result is the mean of the weights from this share of the steps on; 1
            takes the last weights.
        keep_best: Return the weights with the least loss, looked at every so many steps (the
            code's); 0 returns the last or mean weights.
        augment: Changes the batch at every step; None leaves it.
    """

    samples: int
    steps: int
    lr: float
    weight_decay: float
    layers: int | Sequence[int | str]
    clusters: int
    unit: str
    update: str
    match: str
    schedule: str
    batch_norm: str
    clip: float | None
    weights: Mapping[str, float]
    temperature: float = 0.02
    average_from: float = 1.0
    keep_best: int = 0
    augment: Any = field(default=None)

    def __post_init__(self) -> None:
        check_types(self)
        check_numbers(self, "weights")
        check_calls(self, "augment", none=True)
        check_choices(self, unit=UNITS, update=UPDATES, match=MATCHES, schedule=SCHEDULES)
        check_choices(self, batch_norm=("frozen", "batch"))
        if set(self.weights) != set(TERMS):
            raise ValueError(f"weights are of {', '.join(TERMS)}, got {', '.join(self.weights)}")
        if isinstance(self.layers, str) or not isinstance(self.layers, int | Sequence):
            raise ValueError(f"layers is a number or a list, got {self.layers!r}")
        count = self.layers if isinstance(self.layers, int) else len(self.layers)
        if self.clusters < 2 or count < 1 or self.samples < 1 or self.steps < 1:
            raise ValueError(
                "clusters is at least 2 and layers, samples and steps at least 1, got "
                f"{self.clusters}, {self.layers}, {self.samples}, {self.steps}"
            )

    def __call__(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        checkpoint: Path | None = None,
        checkpoint_every: int = 50,
    ) -> Tuned:
        """Return a repaired copy; ``model`` itself stays as it is.

        Args:
            model: The suspect model.
            clean: Its images are drawn from.
            triggers: What `TriggerInversion` found.
            seed: Decides the images, K-means and the augmentation.
            checkpoint: A file that an interrupted tuning goes on from; removed at the end.
            checkpoint_every: Steps between checkpoints.

        Raises:
            ValueError: If there is no trigger, fewer clean images than ``samples``, or no layer of
                a chosen name.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        if not triggers:
            raise ValueError("activation tuning needs at least one trigger")
        if len(clean.images) < self.samples:
            raise ValueError(f"samples={self.samples}, but there are {len(clean.images)} images")
        generator = seeded(seed, "tune")
        # One batch for all steps: how few clean images suffice is a number that is reported.
        chosen = torch.randperm(len(clean.images), generator=generator)[: self.samples]
        images = to_float(clean.images[chosen]).to(model.device)
        responses = layer_responses(model, images, triggers)
        # Of the model as it came; layers and neurons are not chosen anew while it changes.
        divergence = {name: response_divergence(*pair) for name, pair in responses.items()}
        layers = choose_layers(divergence, self.layers)
        masks = {
            name: neuron_mask(*responses[name], self.unit, self.clusters, seed) for name in layers
        }
        log.info("tune: layers %s", ", ".join(f"{n} ({divergence[n]:.2f})" for n in layers))
        tuned, losses = self._tune(
            model, images, triggers, masks, clean, generator, checkpoint, checkpoint_every
        )
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        neurons = {name: [int(mask.sum()), mask.numel()] for name, mask in masks.items()}
        return Tuned(tuned, divergence, layers, neurons, losses)

    def _tune(
        self,
        original: CLIP,
        images: Tensor,
        triggers: Sequence[InvertedTrigger],
        masks: Mapping[str, Tensor],
        clean: CleanData,
        generator: torch.Generator,
        checkpoint: Path | None,
        checkpoint_every: int,
    ) -> tuple[CLIP, dict[str, list[float]]]:
        tuned = copy.deepcopy(original)
        weights, rows = trainable(tuned, masks, self.update)
        optimizer = torch.optim.AdamW(weights.values(), lr=self.lr, weight_decay=self.weight_decay)
        scheduler = cosine(optimizer, self.steps, bounce=self.schedule == "bounce")
        # The text tower stays, so the original's classifier is that of the tuned model too.
        classifier = zero_shot_classifier(original, clean.prompts, clean.templates)
        original.eval()
        tuned.train(self.batch_norm == "batch")
        mean, best = Mean(tuned), Best(tuned)
        state = TuningState(tuned, optimizer, scheduler, generator, mean, best)
        state.resume(checkpoint, original.device)
        curves = state.curves
        bar = progress(range(state.steps, self.steps), "tune", start=state.steps)
        for step in bar:
            batch = images if self.augment is None else self.augment(images, generator)
            # One trigger a step, in turn: as long a step as with one, and none of them is
            # forgotten.
            triggered = triggers[step % len(triggers)](batch)
            with fast_attention(tuned):
                terms = self._terms(original, tuned, batch, triggered, masks, classifier)
                weighed = [self.weights[name] * term for name, term in terms.items()]
                loss = torch.stack(weighed).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            total = check_finite(loss, "tune", step)
            bar.loss(total)
            for name, term in terms.items():
                curves.setdefault(f"tune {name}", []).append(float(term.detach()))
            curves["tune total"].append(total)
            if self.keep_best and step % self.keep_best == 0:
                best.offer(total)
            # Before the norm is clipped: rows that may not move must not use up its budget.
            for part in rows:
                part.mask_gradient()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(weights.values(), self.clip)
            optimizer.step()
            # Weight decay moves rows without a gradient too.
            for part in rows:
                part.restore()
            scheduler.step()
            # The mean of late weights is without the noise of single steps.
            if step >= self.average_from * self.steps:
                mean.add()
            state.save(checkpoint, checkpoint_every)
        if self.keep_best:
            best.restore()
        else:
            mean.restore()
            for part in rows:
                part.restore()
        # The copy leaves as the original came, for whoever trains it next.
        for parameter, before in zip(tuned.parameters(), original.parameters(), strict=True):
            parameter.requires_grad_(before.requires_grad)
            parameter.grad = None
        return tuned.eval(), curves

    def _terms(
        self,
        original: CLIP,
        tuned: CLIP,
        batch: Tensor,
        triggered: Tensor,
        masks: Mapping[str, Tensor],
        classifier: Tensor,
    ) -> dict[str, Tensor]:
        """Return the terms whose weight is not 0."""
        layers, count = list(masks), len(batch)
        recorded = original.record(layers)
        with torch.no_grad(), autocast(original.device), folded(original), recorded as wanted:
            before = original.encode_image(batch)
        with folded(tuned), autocast(tuned.device), tuned.record(layers) as now:
            after = tuned.encode_image(torch.cat([batch, triggered]))
        terms: dict[str, Tensor] = {}
        if self.weights["activation"]:
            parts = []
            for name in layers:
                response, mask = now[name].float(), masks[name]
                if self.match == "sample":
                    parts.append(response_loss(response[count:], wanted[name].float(), mask))
                else:
                    parts.append(mean_response_loss(response[count:], response[:count], mask))
            terms["activation"] = torch.stack(parts).sum()
        if self.weights["embedding"]:
            terms["embedding"] = preservation_loss(after[count:], before)
        if self.weights["preserve"]:
            terms["preserve"] = preservation_loss(after[:count], before)
        if self.weights["distance"]:
            terms["distance"] = embedding_loss(after[:count], before)
        if self.weights["cross_modal"]:
            terms["cross_modal"] = cross_modal_loss(
                after[:count], before, classifier, self.temperature
            )
        return terms
