"""SLOF: the simplified local outlier factor (Schubert, Zimek, Kriegel, 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invertune.detectors.neighbors import NeighborDetector, Neighbors


def slof(neighbors: Neighbors) -> Tensor:
    """Return 1/k times the sum, over a sample's neighbors, of its k-distance over theirs, (B,).

    It is infinite where a neighbor lies among k copies of itself.
    """
    return neighbors.ratios.mean(dim=1)


@dataclass(frozen=True)
class SLOF(NeighborDetector):
    """Score pairs by the SLOF of their image features: how much sparser it is around each."""

    def score(self, neighbors: Neighbors) -> Tensor:
        """Return `slof` of a batch."""
        return slof(neighbors)
