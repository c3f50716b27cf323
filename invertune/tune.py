"""Step 3 of InverTune: tune away what inverted triggers fire.

The paper finds the neurons that they fire and tunes these quiet (``activation``). The default draws
the embeddings of triggered images back to what the original makes of the clean ones
(``embedding``), which does better here; which neurons it would be is reported all the same.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from invertune.clip.encode import zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.evidence import Finding
from invertune.fields import (
    check_calls,
    check_choices,
    check_counts,
    check_positive,
    check_shares,
    check_terms,
    check_types,
    check_weights,
)
from invertune.finite import check_finite
from invertune.neurons import backdoor_neurons, check_layers
from invertune.perturb.optimize import fast_attention
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.tuned_weights import Best, Mean, TuningState, cosine, trainable
from invertune.tuning_terms import TERMS, TuningTerms
from invertune.work import Work

log = logging.getLogger(__name__)

UNITS = ("channel", "position")
UPDATES = ("neurons", "layers", "all")
MATCHES = ("sample", "batch_mean")
SCHEDULES = ("cosine", "bounce")
PASSES = ("joint", "separate")

# Takes the model as it is tuned so far, the triggers and the number of steps; returns new triggers.
Refresh = Callable[[CLIP, Sequence[InvertedTrigger], int], list[InvertedTrigger]]


@dataclass(frozen=True)
class Tuned:
    """The repaired model and how it came about; see `invertune.evidence.Evidence`."""

    model: CLIP
    divergence: dict[str, float]
    layers: list[str]
    neurons: dict[str, list[int]]
    curves: dict[str, list[float]]
    findings: dict[str, Finding] = field(default_factory=dict)


@runtime_checkable
class Tuning(Protocol):
    """Step 3: makes a copy of the model that the triggers do nothing to."""

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def refresh_every(self) -> int:
        """Steps after which it asks for triggers that follow; 0 never does."""

    def __call__(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        checkpoint: Path | None = None,
        start: CLIP | None = None,
        refresh: Refresh | None = None,
        number: int = 1,
        suspected: Sequence[int] = (),
    ) -> Tuned:
        """Return a repaired copy of ``start``, or else of ``model``; both stay as they are."""


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
        keep_best: Look after every so many steps (after 10, 20, ... in the code), and return the
            weights that the step with the least loss left; 0 returns the last or mean weights. A
            step's loss is that of the weights before it, as the code pairs them.
        passes: Clean and triggered images in one ``joint`` batch, or ``separate``: clean ones,
            triggered ones, and clean ones again, as the code has it. With ``batch_norm=batch`` each
            pass is normalized by its own statistics, and moves the running ones.
        augment: Changes the batch at every step; None leaves it.
        batch_size: Images a step, drawn anew from the ``samples``; None takes all of them at every
            step, as the paper does with its one batch.
        refresh_every: Steps after which the triggers are optimized further, against the model that
            is being tuned; tuning goes on with these and with those that it began with. 0 keeps
            the triggers, as the paper does.
        leave_out: Leave out of a batch the images that the model takes for a suspected class only
            as they are augmented. Bending and blending may fire a backdoor as a trigger does, and
            what such images are to the model as it came is what is to be tuned away.
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
    passes: str = "joint"
    augment: Any = field(default=None)
    batch_size: int | None = None
    refresh_every: int = 0
    leave_out: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_terms(self, "weights", TERMS)
        check_positive(self, "lr", "temperature", *(() if self.clip is None else ("clip",)))
        check_weights(self, "weight_decay")
        check_shares(self, "average_from", zero=True, one=True)
        check_calls(self, "augment", none=True)
        check_choices(self, unit=UNITS, update=UPDATES, match=MATCHES, schedule=SCHEDULES)
        check_choices(self, batch_norm=("frozen", "batch"), passes=PASSES)
        check_layers(self.layers)
        check_counts(self, "clusters", least=2)
        check_counts(self, "samples", "steps")
        if self.batch_size is not None and not 1 <= self.batch_size <= self.samples:
            raise ValueError(
                f"batch_size is between 1 and samples ({self.samples}), got {self.batch_size}"
            )
        if not 0 <= self.refresh_every <= self.steps:
            raise ValueError(
                f"refresh_every is between 0 and steps ({self.steps}), got {self.refresh_every}"
            )
        # Else nothing would be looked at, and the model come back as it was.
        if not 0 <= self.keep_best <= self.steps:
            raise ValueError(
                f"keep_best is between 0 and steps ({self.steps}), got {self.keep_best}"
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
        start: CLIP | None = None,
        refresh: Refresh | None = None,
        number: int = 1,
        suspected: Sequence[int] = (),
    ) -> Tuned:
        """Return a repaired copy; ``model`` itself stays as it is.

        Args:
            model: The suspect model.
            clean: Its images are drawn from.
            triggers: What step 2 found.
            seed: Decides the images, K-means and the augmentation.
            checkpoint: A file that an interrupted tuning goes on from; removed at the end.
            checkpoint_every: Steps between checkpoints.
            start: What is tuned on, such as an earlier round's result; ``model`` if None. What
                responses and embeddings are compared with is ``model``'s in any case.
            refresh: Optimizes triggers further; needed where ``refresh_every`` is not 0.
            number: Of the round. All have the same images, each its own batches.
            suspected: Classes that the triggers are of, for ``leave_out``.

        Raises:
            ValueError: If there is no trigger, fewer clean images than ``samples``, or no layer of
                a chosen name.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        if not triggers:
            raise ValueError("activation tuning needs at least one trigger")
        if self.refresh_every and refresh is None:
            raise ValueError(f"refresh_every={self.refresh_every} needs who refreshes triggers")
        if len(clean.images) < self.samples:
            raise ValueError(f"samples={self.samples}, but there are {len(clean.images)} images")
        generator = seeded(seed, "tune")
        # How few clean images suffice is a number that is reported.
        chosen = torch.randperm(len(clean.images), generator=generator)[: self.samples]
        images = to_float(clean.images[chosen]).to(model.device)
        if number > 1:
            generator = seeded(seed, "tune", number)
        divergence, masks = backdoor_neurons(
            model, images[: self.batch_size], triggers, self.layers, self.unit, self.clusters, seed
        )
        shown = ", ".join(f"{n} ({divergence[n]:.2f})" for n in masks)
        log.info("tune: most divergent layers %s", shown)
        tuned, losses = self._tune(
            model, start or model, images, triggers, masks, clean, generator,
            checkpoint, checkpoint_every, refresh, number, suspected,
        )  # fmt: skip
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        neurons = {name: [int(mask.sum()), mask.numel()] for name, mask in masks.items()}
        return Tuned(tuned, divergence, list(masks), neurons, losses)

    def work(self) -> Work:
        """Return what goes through the tuned model and the original."""
        images = (self.batch_size or self.samples) * self.steps
        # Clean and triggered images through the one, the clean ones through the other.
        return Work(forward=images, trained=2 * images, steps=self.steps)

    def _tune(
        self,
        original: CLIP,
        start: CLIP,
        images: Tensor,
        triggers: Sequence[InvertedTrigger],
        masks: Mapping[str, Tensor],
        clean: CleanData,
        generator: torch.Generator,
        checkpoint: Path | None,
        checkpoint_every: int,
        refresh: Refresh | None,
        number: int,
        suspected: Sequence[int],
    ) -> tuple[CLIP, dict[str, list[float]]]:
        tuned = copy.deepcopy(start)
        state = self._start(tuned, masks, generator, number)
        state.resume(checkpoint, original.device)
        # The text tower stays, so the original's classifier is that of the tuned model too.
        classifier = zero_shot_classifier(original, clean.prompts, clean.templates)
        terms = TuningTerms(
            original, tuned, masks, classifier, self.weights, self.match, self.passes,
            self.temperature, suspected,
        )  # fmt: skip
        original.eval()
        shown = terms.shows(images) if self.leave_out and suspected else None
        tuned.train(self.batch_norm == "batch")
        bar = progress(range(state.steps, self.steps), "tune", start=state.steps)
        for step in bar:
            due = self.refresh_every and step and step % self.refresh_every == 0
            if due and refresh is not None:
                state.fresh = refresh(tuned, state.fresh or triggers, step)
                tuned.train(self.batch_norm == "batch")
            drawn = self._draw(len(images), generator).to(images.device)
            batch, at_hand = images[drawn], [*state.fresh, *triggers]
            if self.augment is not None:
                batch = self.augment(batch, generator)
            own = None if shown is None else shown[drawn]
            # One trigger a step, in turn: as long a step as with one, and none of them is
            # forgotten.
            bar.loss(self._step(state, terms, batch, at_hand[step % len(at_hand)](batch), own))
            state.save(checkpoint, checkpoint_every)
        state.finish(best=self.keep_best > 0)
        # The copy leaves as the original came, for whoever trains it next.
        for parameter, before in zip(tuned.parameters(), original.parameters(), strict=True):
            parameter.requires_grad_(before.requires_grad)
            parameter.grad = None
        return tuned.eval(), state.curves

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return which of so many images are a step's."""
        if self.batch_size is None:
            return torch.arange(count)
        return torch.randperm(count, generator=generator)[: self.batch_size]

    def _start(
        self, tuned: CLIP, masks: Mapping[str, Tensor], generator: torch.Generator, number: int
    ) -> TuningState:
        weights, rows = trainable(tuned, masks, self.update)
        optimizer = torch.optim.AdamW(weights.values(), lr=self.lr, weight_decay=self.weight_decay)
        scheduler = cosine(optimizer, self.steps, bounce=self.schedule == "bounce")
        stage = "tune" if number == 1 else f"tune {number}"
        return TuningState(
            tuned, rows, optimizer, scheduler, generator, Mean(tuned), Best(tuned), stage
        )

    def _step(
        self,
        state: TuningState,
        terms: TuningTerms,
        batch: Tensor,
        triggered: Tensor,
        shown: Tensor | None,
    ) -> float:
        """Make one step; return its loss, which is that of the weights before it."""
        step = state.steps
        with fast_attention(terms.tuned):
            found = terms(batch, triggered, shown)
            loss = torch.stack([self.weights[name] * term for name, term in found.items()]).sum()
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        total = check_finite(loss, "tune", step)
        for name, term in found.items():
            state.curves.setdefault(f"tune {name}", []).append(float(term.detach()))
        state.curves["tune total"].append(total)
        state.update(self.clip)
        if self.keep_best and state.steps % self.keep_best == 0:
            state.best.offer(total)
        # The mean of late weights is without the noise of single steps.
        if step >= self.average_from * self.steps:
            state.mean.add()
        return total
