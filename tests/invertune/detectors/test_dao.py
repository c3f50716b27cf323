from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.detectors.dao import DAO, dao, local_dimensionality
from invertune.detectors.neighbors import nearest

Tiny = Callable[[str], CLIP]


def test_it_is_the_mean_of_logarithms_of_powers(points: Any, around: Callable[[Any], Any]) -> None:
    found, k = dao(nearest(torch.from_numpy(points), k=6)), 6
    every = around(points)
    expected = [
        sum(
            math.log((one.k_distance(k) / every[o].k_distance(k)) ** every[o].dimensionality(k))
            for o, _ in one.others[:k]
        )
        / k
        for one in every
    ]
    assert found.tolist() == pytest.approx(expected)


def test_it_is_that_of_four_points_on_a_line() -> None:
    # With k = 1, LID is -1 / ln(r1 / r2): of 1/3, 1/2, 2/3 and 4/6, at 0, 1, 3 and 7.
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    lids = [-1 / math.log(share + 1e-4) for share in (1 / 3, 1 / 2, 2 / 3, 2 / 3)]
    neighbors = nearest(line, k=1)
    assert local_dimensionality(neighbors).tolist() == pytest.approx(lids, rel=1e-5)
    expected = [0, 0, lids[1] * math.log(2), lids[2] * math.log(2)]
    assert dao(neighbors).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dimension", [2, 8])
def test_the_dimensionality_is_that_of_the_space(dimension: int) -> None:
    cube = np.random.default_rng(0).normal(0, 1, (4000, dimension)) @ np.eye(dimension, 20)
    found = local_dimensionality(nearest(torch.from_numpy(cube), k=50))
    assert float(found.median()) == pytest.approx(dimension, rel=0.15)


def test_equal_distances_have_the_largest_dimensionality_there_is() -> None:
    assert local_dimensionality(nearest(torch.eye(6), k=3)).tolist() == pytest.approx([1e4] * 6)
    assert local_dimensionality(nearest(torch.zeros(6, 2), k=3)).tolist() == pytest.approx(
        [1e4] * 6
    )


def test_copies_are_no_outliers_and_who_is_near_them_is_one() -> None:
    found = dao(nearest(torch.tensor([[0.0], [0.0], [0.0], [2.0], [5.0], [9.0]]), k=2))
    assert found[:3].tolist() == [0.0] * 3
    assert found[3] == torch.inf
    assert not found.isnan().any()


def test_the_odd_one_scores_highest(tiny: Tiny, spotted: ImageTextPairs) -> None:
    scores = DAO("dao", 60, 4).scores(tiny("resnet"), spotted, seed=0)
    assert int(scores.argmax()) == 59
