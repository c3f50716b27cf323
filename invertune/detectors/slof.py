"""SLOF: the simplified local outlier factor (Schubert, Zimek, Kriegel, 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.detectors.neighbors import Neighbors, score_pairs
from invertune.fields import check_counts, check_types


def slof(neighbors: Neighbors) -> Tensor:
    """Return 1/k times the sum, over a sample's neighbors, of its k-distance over theirs, (B,).

    It is infinite where a neighbor lies among k copies of itself.
    """
    return neighbors.ratios.mean(dim=1)


@dataclass(frozen=True)
class SLOF:
    """Score pairs by the SLOF of their image features in random batches.

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
        """Return how much sparser it is around every pair's image than around its neighbors, (N,).

        Raises:
            ValueError: If a batch has no more than ``neighbors`` + 1 pairs.
        """
        return score_pairs(self.name, model, pairs, self.batch_size, self.neighbors, slof, seed)
