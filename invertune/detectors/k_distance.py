"""k-distance: how far a sample's k-th nearest neighbor is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.detectors.neighbors import Neighbors, score_pairs
from invertune.fields import check_counts, check_types


def k_distance(neighbors: Neighbors) -> Tensor:
    """Return the distance to the k-th nearest other, (B,) (Ramaswamy et al., 2000)."""
    return neighbors.k_distance


@dataclass(frozen=True)
class KDistance:
    """Score pairs by the k-distance of their image features in random batches.

    Attributes:
        name: Name in results.
        batch_size: Pairs that are compared with each other.
        neighbors: k.
    """

    name: str
    batch_size: int
    neighbors: int
    needs: str = "poisoned_pairs"
    clean_samples: int = 0
    knows: str = "nothing"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "batch_size", "neighbors")

    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        """Return how far every pair's image is from its k-th neighbor, (N,).

        Raises:
            ValueError: If a batch has no more than ``neighbors`` + 1 pairs.
        """
        return score_pairs(
            self.name, model, pairs, self.batch_size, self.neighbors, k_distance, seed
        )
