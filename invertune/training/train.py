"""Contrastive training of both towers: one loop for pre-training, implanting and fine-tuning."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP, MAX_LOGIT_SCALE
from invertune.data.bundle import ImageTextPairs
from invertune.finite import check_finite
from invertune.losses import clip_loss
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.training.checkpoint import load_state, save_state
from invertune.training.objective import Batch, Objective
from invertune.training.optimizers import Optimizers
from invertune.training.recipe import Recipe

log = logging.getLogger(__name__)


@contextlib.contextmanager
def compact_vocabulary(model: CLIP, tokens: Tensor) -> Iterator[Tensor]:
    """Train only the token embeddings that occur; yield ``tokens`` in their numbering.

    Most of a small CLIP is its table of 49,408 token embeddings, and an optimizer that touches
    all of them at every step spends half its time there. Inside the block the model's table has
    the rows that ``tokens`` use, in the same order (the text tower finds the end token by its
    number, the largest); afterwards they are written back.
    """
    clip = model.clip
    table: nn.Embedding = clip.token_embedding  # type: ignore[assignment]
    used, numbers = torch.unique(tokens, return_inverse=True)
    used = used.to(table.weight.device)
    compact = nn.Embedding(len(used), table.embedding_dim, device=table.weight.device)
    compact.weight.data.copy_(table.weight.data[used])
    compact.weight.requires_grad_(table.weight.requires_grad)
    clip.token_embedding = compact
    try:
        yield numbers.view_as(tokens)
    finally:
        table.weight.data[used] = compact.weight.data
        clip.token_embedding = table


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return the shuffled batches of one pass, (steps, batch_size) indices."""
    # Each pass has a generator of its own: a training that goes on in the middle needs no history.
    order = torch.randperm(count, generator=seeded(seed, "order", epoch))
    steps = count // batch_size
    return order[: steps * batch_size].view(steps, batch_size)


def _batches(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    for epoch in itertools.count():
        yield from epoch_order(count, batch_size, seed, epoch)


@torch.no_grad()
def adopt_text_tower(model: CLIP, teacher: CLIP) -> None:
    """Copy everything but the image tower from ``teacher``.

    Raises:
        ValueError: If the text towers differ in shape.
    """
    wanted = {
        name: value for name, value in teacher.clip.state_dict().items() if name[:7] != "visual."
    }
    try:
        model.clip.load_state_dict(wanted, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{model.name} has another text tower than {teacher.name}") from error


def train(
    model: CLIP,
    pairs: ImageTextPairs,
    recipe: Recipe,
    *,
    seed: int,
    stage: str,
    teacher: CLIP | None = None,
    objective: Objective | None = None,
    texts: Sequence[str] = (),
    checkpoint: Path | None = None,
    checkpoint_every: int = 200,
) -> list[float]:
    """Train ``model`` in place and return the loss of every step.

    Args:
        model: Left in evaluation mode.
        pairs: What to train on.
        recipe: How to.
        seed: Decides the order of the pairs.
        stage: Name in error messages and where progress is shown.
        teacher: Its image embeddings are matched where ``recipe.teacher_weight`` is positive.
        objective: Takes the model and a `Batch`, and returns the loss in place of the contrastive
            one, a scalar.
        texts: Further texts that the objective encodes, such as reworded captions: `Batch.texts`.
        checkpoint: A file that an interrupted training goes on from; removed at the end.
        checkpoint_every: Steps between checkpoints.

    Raises:
        ValueError: If there are fewer pairs than one batch.
        NonFiniteLossError: If the loss becomes NaN or infinite.
    """
    recipe.check_pairs(len(pairs), stage)
    total = recipe.steps(len(pairs))
    tokens = model.tokenize([*pairs.captions, *texts])
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    visual = {id(p) for p in model.visual.parameters()}
    if teacher is not None:
        teacher.eval()
    if recipe.freeze_text:
        if teacher is not None:
            adopt_text_tower(model, teacher)
        # Frozen weights are left out of the backward pass, not only of the update.
        for parameter, _ in trainable:
            parameter.requires_grad_(id(parameter) in visual)
    frozen = batch_norms(model) if recipe.freeze_batch_norm else []
    for norm in frozen:
        norm.requires_grad_(False)
    try:
        if recipe.epochs > 1:  # drawn once instead of once a pass
            pairs = pairs.kept()
        with compact_vocabulary(model, tokens) as numbers:
            own, others = numbers[: len(pairs)], numbers[len(pairs) :]
            run = _Run(
                model, pairs, own, others, recipe, total, seed, stage, teacher, objective, frozen
            )
            # The flash kernel's backward pass is the slower one on a CPU.
            on_cpu = model.device.type == "cpu"
            with sdpa_kernel(SDPBackend.MATH) if on_cpu else contextlib.nullcontext():
                return run.go(checkpoint, checkpoint_every)
    finally:
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)
        model.eval()


@dataclass
class _Run:
    """The state of one training."""

    model: CLIP
    pairs: ImageTextPairs
    tokens: Tensor
    texts: Tensor
    recipe: Recipe
    total: int
    seed: int
    stage: str
    teacher: CLIP | None
    objective: Objective | None
    frozen: list[nn.Module]

    def go(self, checkpoint: Path | None, every: int) -> list[float]:
        optimizers = Optimizers(self.model, self.recipe, self.total)
        losses = self._resume(optimizers, checkpoint)
        steps = itertools.islice(
            _batches(len(self.pairs), self.recipe.batch_size, self.seed), len(losses), self.total
        )
        bar = progress(steps, self.stage, total=self.total, start=len(losses))
        self.model.train()
        # The model's training mode is theirs too, in which they take the statistics of the batch.
        for norm in self.frozen:
            norm.eval()
        for index in bar:
            loss = self._loss(index)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(check_finite(loss, self.stage, len(losses)))
            bar.loss(losses[-1])
            optimizers.step(len(losses) - 1)
            # As CLIP does, whose training is not stable beyond it.
            self.model.logit_scale.data.clamp_(0, MAX_LOGIT_SCALE)
            if checkpoint is not None and len(losses) % every == 0 and len(losses) < self.total:
                self._save(optimizers, checkpoint, losses)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        return losses

    def _loss(self, index: Tensor) -> Tensor:
        device = self.model.device
        images = self.pairs.batch(index).to(device, non_blocking=True)
        with autocast(device):
            if self.objective is not None:
                tokens, texts = (part.to(device) for part in (self.tokens[index], self.texts))
                return self.objective(self.model, Batch(images, tokens, index, texts))
            image_features = self.model.encode_image(images)
            if self.recipe.teacher_weight == 0 or self.teacher is None:
                text_features = self.model.encode_tokens(self.tokens[index].to(device))
                return clip_loss(image_features, text_features, self.model.logit_scale)
            with torch.no_grad():
                wanted = self.teacher.encode_image(images)
                text_features = self.model.encode_tokens(self.tokens[index].to(device))
        distance = (1 - (image_features * wanted).sum(dim=-1)).mean()
        contrast = clip_loss(image_features, text_features, self.model.logit_scale)
        return contrast + self.recipe.teacher_weight * distance

    def _save(self, optimizers: Optimizers, path: Path, losses: list[float]) -> None:
        state = {
            "model": self.model.clip.state_dict(),
            "adamw": optimizers.adamw.state_dict(),
            "muon": optimizers.muon.state_dict() if optimizers.muon else {},
            "losses": losses,
        }
        save_state(path, self.stage, state)

    def _resume(self, optimizers: Optimizers, path: Path | None) -> list[float]:
        state = load_state(path, self.stage, self.model.device)
        if state is None:
            return []
        self.model.clip.load_state_dict(state["model"])
        optimizers.adamw.load_state_dict(state["adamw"])
        if optimizers.muon is not None:
            optimizers.muon.load_state_dict(state["muon"])
        log.info("%s goes on at step %d", self.stage, len(state["losses"]))
        return list(state["losses"])
