"""DAO: the dimensionality-aware outlier score (Anderberg et al., 2024; Huang et al., ICLR 2025)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invertune.detectors.neighbors import NeighborDetector, Neighbors

# Keeps the logarithm of a copy's distance, which is 0, finite.
_OFFSET = 1e-4


def local_dimensionality(neighbors: Neighbors) -> Tensor:
    """Return the local intrinsic dimensionality around each sample, (B,), in (0, 1e4].

    The maximum-likelihood estimate (Amsaleg et al., 2015) from the k nearest others, in units of
    the distance to the one after them, r: -k / sum of ln(r_j / r_(k + 1) + 1e-4). The offset would
    make it negative where all are equally far; there it is 1e4, also where all are copies.
    """
    last = neighbors.distances[:, -1:]
    shares = torch.where(last == 0, 1.0, neighbors.distances[:, :-1] / last)
    return -1 / (shares + _OFFSET).log().mean(dim=1).clamp(max=-_OFFSET)


def dao(neighbors: Neighbors) -> Tensor:
    """Return the mean, over a sample's neighbors o, of LID(o) ln(its k-distance over theirs), (B,).

    The logarithm of the power form, SLOF's ratio to the power LID(o), taken of each neighbor: the
    powers themselves would overflow. It is infinite where a neighbor lies among k copies of itself.
    """
    dimensions = local_dimensionality(neighbors)[neighbors.places]
    return (dimensions * neighbors.ratios.log()).mean(dim=1)


@dataclass(frozen=True)
class DAO(NeighborDetector):
    """Score pairs by the DAO of their image features: how much of an outlier each is."""

    def score(self, neighbors: Neighbors) -> Tensor:
        """Return `dao` of a batch."""
        return dao(neighbors)
