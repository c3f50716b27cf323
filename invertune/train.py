"""Contrastive training of both towers: one loop for pre-training, implanting and fine-tuning."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from invertune.data.bundle import ImageTextPairs, seeded
from invertune.fields import check_counts, check_positive, check_shares, check_weights, is_number
from invertune.losses import clip_loss
from invertune.models import CLIP, MAX_LOGIT_SCALE, autocast
from invertune.muon import Muon

log = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; says in which stage and at which step."""

    def __init__(self, stage: str, step: int, loss: float) -> None:
        super().__init__(f"{stage}: the loss is {loss} at step {step}; lower the learning rate")


def check_finite(loss: Tensor, stage: str, step: int) -> float:
    """Return the loss as a number.

    Raises:
        NonFiniteLossError: If it is NaN or infinite.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise NonFiniteLossError(stage, step, value)
    return value


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs a step; an incomplete last batch is dropped.
        lr: Peak learning rate of AdamW.
        betas: AdamW's.
        weight_decay: On matrices; biases, norms and the logit scale have none.
        warmup: Share of the steps with a rising learning rate; a cosine to 0 follows.
        muon_lr: Peak learning rate of Muon for the hidden matrices and convolutions, whose updates
            are scaled to AdamW's size; None trains them by AdamW.
        teacher_weight: Factor on the distance, 1 - cosine, to a teacher's image embeddings.
        freeze_text: Leave the text tower as it is; with a teacher, it is the teacher's.
        freeze_batch_norm: Leave the statistics and factors of BatchNorm as they are.
    """

    epochs: float
    batch_size: int
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup: float
    muon_lr: float | None = None
    teacher_weight: float = 0.0
    freeze_text: bool = False
    freeze_batch_norm: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "batch_size")
        check_positive(self, "epochs", "lr", *(("muon_lr",) if self.muon_lr is not None else ()))
        check_weights(self, "weight_decay", "teacher_weight")
        check_shares(self, "warmup", zero=True, one=True)
        betas = self.betas
        if not (len(betas) == 2 and all(is_number(beta) and 0 <= beta < 1 for beta in betas)):
            raise ValueError(f"betas is two numbers in [0, 1), got {betas!r}")

    def steps(self, pairs: int) -> int:
        """Return the number of steps on so many pairs."""
        return max(1, round(self.epochs * (pairs // self.batch_size)))

    def check_pairs(self, pairs: int, stage: str) -> None:
        """Compare the number of pairs with a batch.

        Raises:
            ValueError: If there are fewer.
        """
        if pairs < self.batch_size:
            raise ValueError(
                f"{stage} needs at least batch_size={self.batch_size} pairs, got {pairs}"
            )


Objective = Callable[[CLIP, Tensor, Tensor], Tensor]


# Muon's orthogonalization costs min(m, n)^2 * max(m, n): beyond this side AdamW pays more. Three
# Newton-Schulz steps in place of the usual five learn as well and take two thirds of the time. The
# text tower needs Muon too: without, rn50_mini of seed 2 stayed at chance.
_MUON_SIDE = 256
_MUON_STEPS = 3


class _Matrices(nn.Module):
    """2-D views of weights that Muon updates; convolutions are seen as (out, in * kernel)."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = weights
        self.views = [nn.Parameter(_as_matrix(weight.data)) for weight in weights]

    def take_gradients(self) -> None:
        for weight, view in zip(self.weights, self.views, strict=True):
            view.grad = None if weight.grad is None else _as_matrix(weight.grad)


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.dim() == 2:
        return weight
    return weight.permute(0, 2, 3, 1).flatten(1)  # a view of channels-last memory


class Optimizers:
    """AdamW, with Muon beside it where the recipe says so, under one warm-up and cosine."""

    def __init__(self, model: CLIP, recipe: Recipe, total_steps: int) -> None:
        self.recipe, self.total_steps = recipe, total_steps
        hidden, decayed, plain = [], [], []
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            small = weight.dim() in (2, 4) and min(weight.shape[0], weight[0].numel()) <= _MUON_SIDE
            inner = not any(part in name for part in ("embedding", "text_projection"))
            if recipe.muon_lr is not None and small and inner:
                hidden.append(weight)
            elif weight.dim() >= 2:
                decayed.append(weight)
            else:
                plain.append(weight)
        self.matrices = _Matrices(hidden)
        self.adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            betas=recipe.betas,
            fused=True,
        )
        self.muon = (
            Muon(
                self.matrices.views,
                lr=recipe.muon_lr or 0.0,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
                ns_steps=_MUON_STEPS,
            )
            if hidden
            else None
        )

    def factor(self, step: int) -> float:
        """Return the share of the peak learning rate at a step that counts from 0."""
        warm = max(1, round(self.recipe.warmup * self.total_steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.total_steps - warm)))

    def step(self, step: int) -> None:
        """Update the weights and drop their gradients."""
        factor = self.factor(step)
        for group in self.adamw.param_groups:
            group["lr"] = self.recipe.lr * factor
        self.adamw.step()
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = (self.recipe.muon_lr or 0.0) * factor
            self.matrices.take_gradients()
            self.muon.step()  # type: ignore[no-untyped-call]
            for weight in self.matrices.weights:
                weight.grad = None
        self.adamw.zero_grad(set_to_none=True)


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
    checkpoint: Path | None = None,
    checkpoint_every: int = 200,
) -> list[float]:
    """Train ``model`` in place and return the loss of every step.

    Args:
        model: Left in evaluation mode.
        pairs: What to train on.
        recipe: How to.
        seed: Decides the order of the pairs.
        stage: Name in error messages and on the progress bar.
        teacher: Its image embeddings are matched where ``recipe.teacher_weight`` is positive.
        objective: Takes the model, a batch of images, (B, 3, H, W) in [0, 1] on its device, and
            their positions among the pairs, (B,), and returns the loss in place of the
            contrastive one.
        checkpoint: A file that an interrupted training goes on from; removed at the end.
        checkpoint_every: Steps between checkpoints.

    Raises:
        ValueError: If there are fewer pairs than one batch.
        NonFiniteLossError: If the loss becomes NaN or infinite.
    """
    recipe.check_pairs(len(pairs), stage)
    total = recipe.steps(len(pairs))
    tokens = model.tokenize(pairs.captions)
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    visual = {id(p) for p in model.visual.parameters()}
    if teacher is not None:
        teacher.eval()
    if recipe.freeze_text:
        if teacher is not None:
            adopt_text_tower(model, teacher)
        for parameter, _ in trainable:
            parameter.requires_grad_(id(parameter) in visual)
    frozen = batch_norms(model) if recipe.freeze_batch_norm else []
    for norm in frozen:
        norm.requires_grad_(False)
    try:
        if recipe.epochs > 1:  # drawn once instead of once a pass
            pairs = pairs.take(torch.arange(len(pairs)))
        with compact_vocabulary(model, tokens) as numbers:
            run = _Run(
                model, pairs, numbers, recipe, total, seed, stage, teacher, objective, frozen
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
        bar = tqdm(
            steps,
            desc=self.stage,
            total=self.total,
            initial=len(losses),
            unit="step",
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        self.model.train()
        for norm in self.frozen:
            norm.eval()
        for index in bar:
            loss = self._loss(index)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(check_finite(loss, self.stage, len(losses)))
            optimizers.step(len(losses) - 1)
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
                return self.objective(self.model, images, index)
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
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def _resume(self, optimizers: Optimizers, path: Path | None) -> list[float]:
        if path is None or not path.exists():
            return []
        try:
            state = torch.load(path, weights_only=True, map_location=self.model.device)
        except Exception:
            log.warning("%s is damaged; %s starts again", path, self.stage)
            return []
        self.model.clip.load_state_dict(state["model"])
        optimizers.adamw.load_state_dict(state["adamw"])
        if optimizers.muon is not None:
            optimizers.muon.load_state_dict(state["muon"])
        log.info("%s goes on at step %d", self.stage, len(state["losses"]))
        return list(state["losses"])
