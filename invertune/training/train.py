"""Contrastive training of both towers: one loop for pre-training, implanting and fine-tuning."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invertune.clip.models import CLIP, MAX_LOGIT_SCALE
from invertune.data.bundle import ImageTextPairs
from invertune.finite import check_finite
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.training.ahead import ahead
from invertune.training.checkpoint import load_state, save_state
from invertune.training.distributed import Ranks
from invertune.training.execution import current
from invertune.training.norms import batch_norms, shared_norms
from invertune.training.objective import Objective, check_objective
from invertune.training.optimizers import Optimizers
from invertune.training.recipe import Recipe
from invertune.training.step import Step

log = logging.getLogger(__name__)

_AHEAD = 3  # batches that are read while a GPU computes; a processor computes on the same cores


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
    device, dtype = table.weight.device, table.weight.dtype
    used = used.to(device)
    compact = nn.Embedding(len(used), table.embedding_dim, device=device, dtype=dtype)
    compact.weight.data.copy_(table.weight.data[used])
    compact.weight.requires_grad_(table.weight.requires_grad)
    clip.token_embedding = compact
    try:
        yield numbers.view_as(tokens)
    finally:
        table.weight.data[used] = compact.weight.data
        clip.token_embedding = table


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

    How it is computed, and by how many processes, is the execution's that is in use; what is
    learned is the same up to rounding. Every process calls it with the same arguments.

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
        checkpoint: A file that an interrupted training goes on from, with any number of processes;
            the first one writes it, and removes it at the end.
        checkpoint_every: Steps between checkpoints.

    Raises:
        ValueError: If there are fewer pairs than one batch, processes have different ones, or the
            training would be another one as it is to be computed.
        NonFiniteLossError: If the loss becomes NaN or infinite.
        LostProcessError: If another process of the training ended.
    """
    recipe.check_pairs(len(pairs), stage)
    execution = current()
    execution.check_model(model, recipe.freeze_batch_norm, stage)
    if objective is not None:
        check_objective(objective, recipe, stage)
    execution.ranks.check_same(_facts(model, pairs, recipe, seed, texts), stage)
    tokens = model.tokenize([*pairs.captions, *texts])
    with _trainable(model, recipe, teacher) as frozen, execution.applied(model):
        if recipe.epochs > 1:  # drawn once instead of once a pass
            pairs = pairs.kept()
        with compact_vocabulary(model, tokens) as numbers, shared_norms(model, execution.ranks):
            matched = teacher if recipe.teacher_weight else None
            own, others = numbers[: len(pairs)], numbers[len(pairs) :]
            step = Step(
                model, pairs, own, others, matched, recipe.teacher_weight, objective, execution
            )
            run = _Run(model, step, recipe, len(pairs), seed, stage, frozen, execution.ranks)
            # The flash kernel's backward pass is the slower one on a CPU.
            on_cpu = model.device.type == "cpu"
            with sdpa_kernel(SDPBackend.MATH) if on_cpu else contextlib.nullcontext():
                return run.go(checkpoint, checkpoint_every)


@contextlib.contextmanager
def _trainable(model: CLIP, recipe: Recipe, teacher: CLIP | None) -> Iterator[list[nn.Module]]:
    """Freeze what the recipe leaves as it is inside the block; yield its BatchNorm layers."""
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
        yield frozen
    finally:
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)
        model.eval()


def _facts(
    model: CLIP, pairs: ImageTextPairs, recipe: Recipe, seed: int, texts: Sequence[str]
) -> dict[str, str]:
    """Return digests of what all processes have to have alike, by what it is."""
    shapes = {name: list(value.shape) for name, value in model.clip.state_dict().items()}
    facts = {
        "pairs": [list(pairs.ids), list(pairs.captions), list(texts)],
        "recipe": [repr(recipe), seed],
        "model": [model.name, shapes],
    }
    return {
        name: hashlib.sha256(json.dumps(fact).encode()).hexdigest() for name, fact in facts.items()
    }


@dataclass
class _Run:
    """The state of one training."""

    model: CLIP
    step: Step
    recipe: Recipe
    pairs: int
    seed: int
    stage: str
    frozen: list[nn.Module]
    ranks: Ranks

    def go(self, checkpoint: Path | None, every: int) -> list[float]:
        total = self.recipe.steps(self.pairs)
        optimizers = Optimizers(self.model, self.recipe, total)
        losses = self._resume(optimizers, checkpoint)
        steps = itertools.islice(
            _batches(self.pairs, self.recipe.batch_size, self.seed), len(losses), total
        )
        depth = _AHEAD if self.model.device.type == "cuda" else 0
        read = ahead(steps, self.step.images, depth)
        bar = progress(read, self.stage, total=total, start=len(losses))
        # Files are the first process' own: the others go by what it read.
        path = checkpoint if self.ranks.rank == 0 else None
        self.model.train()
        # The model's training mode is theirs too, in which they take the statistics of the batch.
        for norm in self.frozen:
            norm.eval()
        for index, images in bar:
            loss = self.step.gradients(index, images, len(losses))
            losses.append(check_finite(loss, self.stage, len(losses)))
            bar.loss(losses[-1])
            optimizers.step(len(losses) - 1)
            # As CLIP does, whose training is not stable beyond it.
            self.model.logit_scale.data.clamp_(0, MAX_LOGIT_SCALE)
            if path is not None and len(losses) % every == 0 and len(losses) < total:
                self._save(optimizers, path, losses)
        if path is not None:
            path.unlink(missing_ok=True)
        return losses

    def _save(self, optimizers: Optimizers, path: Path, losses: list[float]) -> None:
        state = {
            "model": self.model.clip.state_dict(),
            "adamw": optimizers.adamw.state_dict(),
            "muon": optimizers.muon.state_dict() if optimizers.muon else {},
            "losses": losses,
        }
        save_state(path, self.stage, state)

    def _resume(self, optimizers: Optimizers, path: Path | None) -> list[float]:
        # Tensors that go to other processes pass through the CPU.
        device = self.model.device if self.ranks.size == 1 else torch.device("cpu")
        first = self.ranks.rank == 0
        state = self.ranks.from_first(load_state(path, self.stage, device) if first else None)
        if state is None:
            self.ranks.copy_from_first(self.model.clip.state_dict())
            return []
        self.model.clip.load_state_dict(state["model"])
        optimizers.adamw.load_state_dict(state["adamw"])
        if optimizers.muon is not None:
            optimizers.muon.load_state_dict(state["muon"])
        log.info("%s goes on at step %d", self.stage, len(state["losses"]))
        return list(state["losses"])
