"""What a training minimizes in place of the contrastive loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from invertune.clip.models import CLIP
from invertune.training.execution import current
from invertune.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """What a training objective sees of a step.

    Attributes:
        images: (B, 3, H, W) in [0, 1], on the model's device.
        tokens: (B, L) of the captions, for `CLIP.encode_tokens`, on the same device. They are
            numbered as the training numbers them: other texts can be encoded only as ``texts``.
        index: (B,) positions among the pairs.
        texts: (T, L) of the further texts that the training was given, alike.
        whole: (G,) positions of the whole batch, of which these are a part where several processes
            share it or a chunk is computed at a time.
        step: Number of the steps before this one: what is drawn anew at every step is drawn by it,
            so that a training that goes on in the middle draws the same.
    """

    images: Tensor
    tokens: Tensor
    index: Tensor
    texts: Tensor
    whole: Tensor
    step: int


Objective = Callable[[CLIP, Batch], Tensor]


def check_objective(objective: object, recipe: Recipe, stage: str) -> None:
    """Find out whether an objective can be computed as the execution in use has it.

    A batch can be divided for an objective that is a mean over the batch's images, but for terms
    that are the same for every part of it; it says so by an attribute ``divides``, which is true.

    Args:
        objective: An `Objective`, or its class.
        recipe: How to train.
        stage: Name in the messages.

    Raises:
        ValueError: If batches would be divided, and it would not be the same training.
    """
    execution = current()
    if execution.ranks.size == 1 and execution.chunk is None:
        return
    if not getattr(objective, "divides", False):
        raise ValueError(
            f"{stage}: its objective sees a whole batch; choices: processes=1 and speed.chunk=null"
        )
    if not recipe.freeze_batch_norm:
        raise ValueError(
            f"{stage}: several processes, or speed.chunk, need recipe.freeze_batch_norm=true: what "
            "this objective encodes beside the batch would count in its statistics"
        )
