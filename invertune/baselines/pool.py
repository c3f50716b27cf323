"""Features of earlier batches, among which nearest neighbors are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def nearest(features: Tensor, among: Tensor) -> Tensor:
    """Return for each feature the most similar one of a pool, (B, D); no gradient goes to either.

    Args:
        features: (B, D), unit norm.
        among: (P, D), unit norm.
    """
    # In half precision near ones would be equally near.
    with torch.autocast(features.device.type, enabled=False):
        return among[(features.float() @ among.float().T).argmax(dim=1)]


class Pool:
    """The latest features, first in, first out.

    The papers' code starts with random vectors, so that the first batches are matched with noise.
    Here a pool is empty at first, and filled by the batch that first looks something up.

    Attributes:
        size: How many it holds.
        features: (P, D), unit norm, at most as many; None as long as it is empty.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.features: Tensor | None = None

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Take in a batch, (B, D), and let go of the oldest."""
        held = features if self.features is None else torch.cat([self.features, features])
        self.features = held[-self.size :].detach().clone()

    def look_up(self, wanted: Tensor, pushed: Tensor) -> Tensor:
        """Return the neighbors of ``wanted``, (B, D), among earlier batches; then push a batch."""
        found = nearest(wanted, pushed if self.features is None else self.features)
        self.push(pushed)
        return found

    def state(self) -> dict[str, Any]:
        """Return what it holds, as `restore` takes it."""
        return {"features": self.features}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what another pool did."""
        self.features = state["features"]
