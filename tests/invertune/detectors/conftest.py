"""Outlier scores by loops over plain numbers, and pairs of plain colors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from invertune.data.bundle import ImageTextPairs

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Around:
    """One sample and its others, the nearest first: index and distance."""

    others: Sequence[tuple[int, float]]

    def k_distance(self, k: int) -> float:
        return self.others[k - 1][1]

    def dimensionality(self, k: int) -> float:
        last = self.others[k][1]
        return -k / sum(math.log(far / last + 1e-4) for _, far in self.others[:k])


@pytest.fixture
def around() -> Callable[[Points], list[Around]]:
    """Sort, for each of some points, all others by their distance."""

    def look(points: Points) -> list[Around]:
        found = []
        for i, point in enumerate(points):
            far = [(math.dist(point, other), j) for j, other in enumerate(points) if j != i]
            found.append(Around([(j, distance) for distance, j in sorted(far)]))
        return found

    return look


@pytest.fixture
def points() -> Points:
    """Return 40 points of five coordinates, no two distances alike."""
    return np.random.default_rng(0).normal(0, 1, (40, 5))


@pytest.fixture
def spotted() -> ImageTextPairs:
    """Return 60 noisy squares, of which the last one alone is black."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(140, 220, (60, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images[-1] = 0
    return ImageTextPairs(images, ["a picture of a lemon"] * 60, [f"pair {i}" for i in range(60)])
