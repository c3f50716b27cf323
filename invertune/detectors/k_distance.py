"""k-distance: how far a sample's k-th nearest neighbor is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invertune.detectors.neighbors import NeighborDetector, Neighbors


def k_distance(neighbors: Neighbors) -> Tensor:
    """Return the distance to the k-th nearest other, (B,) (Ramaswamy et al., 2000)."""
    return neighbors.k_distance


@dataclass(frozen=True)
class KDistance(NeighborDetector):
    """Score pairs by the k-distance of their image features."""

    def score(self, neighbors: Neighbors) -> Tensor:
        """Return `k_distance` of a batch."""
        return k_distance(neighbors)
