"""How a training is computed: by how many processes, how precisely, how much at a time.

None of it is a part of a recipe, for it changes speed and memory, and what is learned up to
rounding only. So attacks and defenses do not hand it on: `train` takes what is in use around it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.fields import check_choices, check_counts, check_types
from invertune.training.distributed import ALONE, Ranks
from invertune.training.norms import batch_norms

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class Execution:
    """How a training is computed.

    Attributes:
        precision: ``auto`` is bfloat16 where the device is fast at it, else float32; ``bf16`` and
            ``fp32`` are so everywhere. There is no fp16: it needs scaled losses and leaves steps
            out, which is another training.
        chunk: Pairs that a process computes at a time; None computes its share of a batch at once.
            Features come first, without gradients, and each chunk again with them, so that the
            loss sees the whole batch (GradCache; Gao et al., 2021).
        checkpointing: Compute activations again in the backward pass in place of keeping them,
            where open_clip can: in transformers.
        compile: Compile the towers by ``torch.compile``.
        ranks: Which of how many processes this one is.
    """

    precision: str = "auto"
    chunk: int | None = None
    checkpointing: bool = False
    compile: bool = False
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self, precision=PRECISIONS)
        if self.chunk is not None:
            check_counts(self, "chunk")

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Compute trainings inside the block so."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which forward passes have this precision."""
        if self.precision == "auto":
            return autocast(device)
        enabled = self.precision == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

    def check_batch(self, batch_size: int, stage: str) -> None:
        """Compare the size of a batch with the processes that share it.

        Raises:
            ValueError: If one of them would have nothing to do.
        """
        if batch_size < self.ranks.size:
            raise ValueError(
                f"{stage}: batch_size is at least the number of processes, {self.ranks.size}, "
                f"got {batch_size}"
            )

    def check_model(self, model: CLIP, frozen_norms: bool, stage: str) -> None:
        """Compare a model with how it is to be computed.

        Args:
            model: The model to train.
            frozen_norms: Whether BatchNorm stays as it is.
            stage: Name in the messages.

        Raises:
            ValueError: If it would learn something else than in one process at once.
        """
        if self.chunk is not None and not frozen_norms and batch_norms(model):
            raise ValueError(
                f"{stage}: chunk={self.chunk} needs a model without BatchNorm, or "
                "recipe.freeze_batch_norm=true: the statistics of a chunk are not the batch's"
            )
        divided = self.chunk is not None or self.ranks.size > 1
        if divided and any(_is_random(module) for module in model.modules()):
            raise ValueError(
                f"{stage}: {model.name} has dropout, which is drawn anew for every part of a "
                "batch; choices: processes=1 and speed.chunk=null"
            )

    @contextlib.contextmanager
    def applied(self, model: CLIP) -> Iterator[None]:
        """Checkpoint and compile the towers of a model inside the block."""
        clip: Any = model.clip
        towers = [model.visual, clip.transformer] if self.compile else []
        if self.checkpointing:
            clip.set_grad_checkpointing(True)
            able = [getattr(part, "grad_checkpointing", False) for part in model.visual.modules()]
            if not any(able):
                log.info("the image tower of %s has no gradient checkpointing", model.name)
        for tower in towers:
            tower.compile()
        try:
            yield
        finally:
            for tower in towers:
                tower._compiled_call_impl = None
            if self.checkpointing:
                clip.set_grad_checkpointing(False)


_CURRENT: contextvars.ContextVar[Execution] = contextvars.ContextVar("execution")


def current() -> Execution:
    """Return the execution in use; one process without any options if none is."""
    return _CURRENT.get(Execution())


def _is_random(module: nn.Module) -> bool:
    """Return whether a layer draws at random while it is trained."""
    own = "p" if isinstance(module, nn.modules.dropout._DropoutNd) else "dropout"
    shares = (getattr(module, own, 0), getattr(module, "prob", 0))  # patches are left out by prob
    return any(isinstance(share, int | float) and share > 0 for share in shares)
