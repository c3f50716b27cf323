"""Nearest neighbors of image features inside random batches of a training set.

Huang, Erfani, Li, Ma, Bailey: Detecting Backdoor Samples in Contrastive Language Image Pretraining
(ICLR 2025). A trigger makes a few images alike to the model, somewhere apart from all others: in a
batch that has few of them, they are far from their nearest neighbors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.fields import check_counts, check_types
from invertune.progress import progress
from invertune.seeds import seeded

_INFINITE = 1000.0  # what stands for an infinite score, as in the authors' code


@dataclass(frozen=True)
class Neighbors:
    """Who is nearest to whom in a batch; nobody is a neighbor of its own.

    Attributes:
        distances: (B, k + 1) Euclidean distances to the nearest others, ascending.
        places: (B, k) rows of the k nearest others.
    """

    distances: Tensor
    places: Tensor

    @property
    def k_distance(self) -> Tensor:
        """The distance to the k-th nearest other, (B,)."""
        return self.distances[:, self.places.shape[1] - 1]

    @property
    def ratios(self) -> Tensor:
        """How much sparser it is around each than around each of its neighbors, (B, k).

        The k-distance of the one over that of the other. It is infinite where the
        other lies among k copies of itself, and 1 where both do: neither is sparser.
        """
        own, others = self.k_distance[:, None], self.k_distance[self.places]
        return torch.where((own == 0) & (others == 0), 1.0, own / others)


Score = Callable[[Neighbors], Tensor]


def nearest(features: Tensor, k: int) -> Neighbors:
    """Return everyone's nearest others.

    Args:
        features: (B, D).
        k: Number of neighbors; one more is looked for.

    Raises:
        ValueError: If there are no k + 1 others.
    """
    if not 1 <= k <= len(features) - 2:
        raise ValueError(f"neighbors are at least 1 and at most a batch less 2, got {k} of "
                         f"{len(features)} samples")  # fmt: skip
    # By way of a matrix product, the distances of near copies would be rounding errors.
    mode = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(features, features, compute_mode=mode)
    # By its place, not as the one at distance 0: a copy is a neighbor as well.
    found = distances.fill_diagonal_(math.inf).topk(k + 1, largest=False)
    return Neighbors(found.values, found.indices[:, :k])


def batches(count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Return random batches that every index is in once.

    No sample is left out, and none is compared with fewer others than the rest are: as many batches
    as the size asks for are as equal as they can be, rather than one a remainder.

    Args:
        count: Number of samples.
        size: Samples in a batch, at most.
        generator: Shuffles them.

    Raises:
        ValueError: If the size is below 1.
    """
    if size < 1:
        raise ValueError(f"a batch has at least 1 sample, got {size}")
    order, number = torch.randperm(count, generator=generator), math.ceil(count / size)
    return list(order.tensor_split(number)) if number else []


@torch.no_grad()
def score_pairs(
    name: str, model: CLIP, pairs: ImageTextPairs, batch_size: int, k: int, score: Score, seed: int
) -> Tensor:
    """Return the score of every pair inside its batch, (N,) float32 on the CPU.

    Args:
        name: Of the detector, where progress is shown.
        model: Its image features, as long as the tower makes them, are compared.
        pairs: Only their images are looked at.
        batch_size: Pairs that are compared with each other, at most.
        k: Number of neighbors.
        score: From the neighbors of a batch, (B,); an infinite one becomes 1000.
        seed: Decides the batches.

    Raises:
        ValueError: If a batch has too few pairs for so many neighbors.
    """
    features = encode_images(model, pairs.images, stage=f"{name}: encode", unit=False)
    scores = torch.zeros(len(pairs))
    parts = batches(len(pairs), batch_size, seeded(seed, "detector batches"))
    for part in progress(parts, name):
        found = score(nearest(features[part].to(model.device, torch.float64), k))
        scores[part] = found.nan_to_num(posinf=_INFINITE).float().cpu()
    return scores


@dataclass(frozen=True)
class NeighborDetector(ABC):
    """Score pairs by the neighbors of their image features in random batches.

    Attributes:
        name: Name in results.
        batch_size: Pairs that are compared with each other; poisoned ones are to be few in it.
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
        # A pair, its neighbors and one more; batches are made equal, which leaves half at least.
        least = 2 * (self.neighbors + 2)
        if self.batch_size < least:
            raise ValueError(
                f"batch_size is at least {least} for {self.neighbors} neighbors, got "
                f"{self.batch_size}"
            )

    @property
    def least_pairs(self) -> int:
        """Pairs of a batch."""
        return self.batch_size

    @abstractmethod
    def score(self, neighbors: Neighbors) -> Tensor:
        """Return how suspicious every sample of a batch is, (B,)."""

    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        """Return the score of every pair's image, (N,).

        Raises:
            ValueError: If a batch has no more than ``neighbors`` + 1 pairs.
        """
        return score_pairs(
            self.name, model, pairs, self.batch_size, self.neighbors, self.score, seed
        )
