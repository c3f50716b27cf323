"""Weights while a model is tuned: which rows may move, their mean, the best so far, and steps."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.neurons import channel_set, output_weights
from invertune.perturb.triggers import InvertedTrigger
from invertune.training.checkpoint import load_state, save_state

log = logging.getLogger(__name__)


class Rows:
    """Lets only the chosen rows of a weight move, whatever the optimizer does to the others."""

    def __init__(self, weight: nn.Parameter, chosen: Tensor) -> None:
        self.weight, self.before = weight, weight.detach().clone()
        self.chosen = chosen.bool().view(-1, *[1] * (weight.dim() - 1))

    def mask_gradient(self) -> None:
        """Take the gradient from all other rows."""
        if self.weight.grad is not None:
            self.weight.grad.mul_(self.chosen)

    @torch.no_grad()
    def restore(self) -> None:
        """Put all other rows back to where they were."""
        self.weight.copy_(torch.where(self.chosen, self.weight, self.before))


class Mean:
    """Running mean of a model's trainable weights."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.sums: list[Tensor] = []
        self.count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Count the weights as they are."""
        if not self.sums:
            self.sums = [torch.zeros_like(weight) for weight in self.weights]
        for total, weight in zip(self.sums, self.weights, strict=True):
            total.add_(weight)
        self.count += 1

    def state(self) -> dict[str, Any]:
        """Return all that `resume` goes on from."""
        return {"sums": self.sums, "count": self.count}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.sums, self.count = list(state["sums"]), state["count"]

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the mean, if anything was added."""
        for total, weight in zip(self.sums, self.weights, strict=False):
            weight.copy_(total / self.count)


class Best:
    """The weights and statistics that were offered with the least loss so far."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.loss, self.weights = model, float("inf"), copy.deepcopy(model.state_dict())

    def offer(self, loss: float) -> None:
        """Keep the weights as they are if this is the least loss."""
        if loss < self.loss:
            self.loss, self.weights = loss, copy.deepcopy(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        """Return all that `resume` goes on from."""
        return {"loss": self.loss, "weights": self.weights}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.loss, self.weights = state["loss"], state["weights"]

    def restore(self) -> None:
        """Give the model the best weights."""
        self.model.load_state_dict(self.weights)


def cosine(
    optimizer: torch.optim.Optimizer, steps: int, *, bounce: bool
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule to 0, or one that bounces: in half the steps to lr / 20, and up again."""
    if not bounce:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    least = optimizer.param_groups[0]["lr"] / 20
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps // 2), eta_min=least)


@dataclass
class TuningState:
    """Where a tuning stands: all that a step reads and changes.

    Attributes:
        model: What is tuned.
        rows: Which rows may move, of weights that do not move as a whole.
        optimizer, scheduler: Of its weights.
        generator: Source of every random number.
        mean, best: Of the weights so far.
        stage: Name of the work; a file of other work is not gone on from.
        fresh: Triggers that were optimized further on the way.
        curves: Of the loss and of its terms; ``tune total`` has one value for each step.
    """

    model: nn.Module
    rows: Sequence[Rows]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    mean: Mean
    best: Best
    stage: str = "tune"
    fresh: list[InvertedTrigger] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=lambda: {"tune total": []})

    @property
    def steps(self) -> int:
        """Number of steps that were made."""
        return len(self.curves["tune total"])

    def update(self, clip: float | None) -> None:
        """Make a step of the optimizer with the gradients that are there.

        Args:
            clip: Largest norm of the gradients of all weights; None for no limit.
        """
        # Before the norm is clipped: rows that may not move must not use up its budget.
        for part in self.rows:
            part.mask_gradient()
        if clip is not None:
            weights = (w for group in self.optimizer.param_groups for w in group["params"])
            nn.utils.clip_grad_norm_(weights, clip)
        self.optimizer.step()
        # Weight decay moves rows without a gradient too.
        for part in self.rows:
            part.restore()
        self.scheduler.step()

    def finish(self, *, best: bool) -> None:
        """Give the model its best weights, or else the mean ones, if there is a mean."""
        if best:
            self.best.restore()
            return
        self.mean.restore()
        for part in self.rows:
            part.restore()

    def save(self, path: Path | None, every: int) -> None:
        """Write all that `resume` goes on from, if so many steps were made since the last time."""
        if path is None or self.steps % every:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "mean": self.mean.state(),
            "best": self.best.state(),
            "fresh": [(trigger.form, trigger.tensors()) for trigger in self.fresh],
            "curves": self.curves,
        }
        save_state(path, self.stage, state)

    def resume(self, path: Path | None, device: torch.device) -> None:
        """Go on from a file if it is there; the next step is the one that would have followed."""
        state = load_state(path, self.stage, device)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"].cpu())
        self.mean.resume(state["mean"])
        self.best.resume(state["best"])
        self.fresh = [InvertedTrigger.of(*one).detached() for one in state["fresh"]]
        self.curves = dict(state["curves"])
        log.info("%s goes on at step %d", self.stage, self.steps)


def trainable(
    model: CLIP, masks: Mapping[str, Tensor], update: str
) -> tuple[dict[str, nn.Parameter], list[Rows]]:
    """Freeze all but the weights that may move; return them, and which rows where not all.

    Args:
        model: Its image tower is tuned.
        masks: Layer -> mask of its neurons.
        update: Which weights move: ``neurons``, ``layers``, or ``all`` of the tower.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    visual = dict(model.visual.named_parameters())
    chosen: dict[str, nn.Parameter] = visual
    rows: list[Rows] = []
    modules = {} if update == "all" else model.visual_layers()
    if update != "all":
        owned = {id(p) for name in masks for p in modules[name].parameters()}
        chosen = {name: p for name, p in visual.items() if id(p) in owned}
    if update == "neurons":
        channels: dict[int, Tensor] = {}
        for name, mask in masks.items():
            channels |= output_weights(modules[name], channel_set(mask))
        chosen = {name: p for name, p in chosen.items() if id(p) in channels}
        rows = [Rows(parameter, channels[id(parameter)]) for parameter in chosen.values()]
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen, rows
