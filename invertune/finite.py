"""Losses that stay numbers."""

from __future__ import annotations

import math

from torch import Tensor


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; says in which stage and at which step."""

    def __init__(self, stage: str, step: int, loss: float) -> None:
        super().__init__(f"{stage}: the loss is {loss} at step {step}; lower the learning rate")


def check_finite(loss: Tensor, stage: str, step: int) -> float:
    """Return the loss as a number.

    Raises:
        NonFiniteLossError: If it is NaN or infinite.
    """
    # One number a step leaves the device anyway, for the curves; the check costs nothing beside it.
    value = loss.item()
    if not math.isfinite(value):
        raise NonFiniteLossError(stage, step, value)
    return value
