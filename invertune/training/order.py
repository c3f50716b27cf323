"""Which pairs every step of a training takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invertune.seeds import seeded


def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return the shuffled batches of one pass, (steps, batch_size) indices."""
    # Each pass has a generator of its own: a training that goes on in the middle needs no history.
    order = torch.randperm(count, generator=seeded(seed, "order", epoch))
    steps = count // batch_size
    return order[: steps * batch_size].view(steps, batch_size)


def batches(
    count: int, batch_size: int, seed: int, steps: range, guided: Callable[[int, Tensor], Tensor]
) -> Iterator[Tensor]:
    """Yield the batch of every step, (batch_size,) indices.

    Args:
        count: Number of pairs.
        batch_size: Pairs a step.
        seed: Decides the order.
        steps: Which ones, counted from 0; a training goes on in the middle of a pass too.
        guided: Takes the number of a pass and its shuffled batches, when the first of them is
            asked for, and returns the batches in their place.
    """
    order, shape = None, (count // batch_size, batch_size)
    for step in steps:
        epoch, place = divmod(step, shape[0])
        if order is None or place == 0:
            order = guided(epoch, epoch_order(count, batch_size, seed, epoch))
            if order.shape != shape:
                raise ValueError(f"a guide returns {shape} positions, got {tuple(order.shape)}")
        yield order[place]
