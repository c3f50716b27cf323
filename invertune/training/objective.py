"""What a training minimizes in place of the contrastive loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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


# It may be `Stateful`, and a `Guide`, too.
Objective = Callable[[CLIP, Batch], Tensor]


@runtime_checkable
class Stateful(Protocol):
    """An objective that remembers something from step to step, such as a pool of features.

    Checkpoints hold it, so that an interrupted training ends like an undisturbed one.
    """

    def state(self) -> dict[str, Any]:
        """Return all that it remembers: tensors, numbers, texts, and lists and mappings of them."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what another one of its kind did; tensors come on the model's device."""


@dataclass(frozen=True)
class Pass:
    """What a guide sees before a pass over the pairs.

    Attributes:
        number: Of the pass, from 0.
        order: (S, B) positions among the pairs: the shuffled batches.
        tokens: (N, L) of all captions, as `Batch.tokens`, on the CPU.
        texts: (T, L) of the further texts, alike.
    """

    number: int
    order: Tensor
    tokens: Tensor
    texts: Tensor


@runtime_checkable
class Guide(Protocol):
    """An objective that decides which pairs a step takes, too, and how fast it learns."""

    def order(self, model: CLIP, planned: Pass) -> Tensor:
        """Return the batches of a pass, as many and as large as those that are planned.

        An interrupted pass is asked for again, after `Stateful.restore`, and has to be the same.

        Args:
            model: As it is trained so far; its mode is set again afterwards.
            planned: Batches in which every pair occurs at most once.
        """

    def rate(self, step: int, usual: float) -> float:
        """Return the factor on the peak learning rate.

        Args:
            step: Counts from 0.
            usual: The factor of the recipe's warm-up and cosine.
        """


def guide_of(objective: object) -> Guide | None:
    """Return an objective that is a guide, too; None of others."""
    return objective if isinstance(objective, Guide) else None


def memory_of(objective: object) -> Stateful | None:
    """Return an objective that remembers something; None of others."""
    return objective if isinstance(objective, Stateful) else None


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
    if execution.ranks.size > 1 and (memory_of(objective) or guide_of(objective)):
        raise ValueError(
            f"{stage}: its objective remembers what one process sees; choose processes=1"
        )
    if not getattr(objective, "divides", False):
        raise ValueError(
            f"{stage}: its objective sees a whole batch; choices: processes=1 and speed.chunk=null"
        )
    if not recipe.freeze_batch_norm:
        raise ValueError(
            f"{stage}: several processes, or speed.chunk, need recipe.freeze_batch_norm=true: what "
            "this objective encodes beside the batch would count in its statistics"
        )
