from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.detector import check_detector
from invertune.detectors.neighbors import nearest
from invertune.detectors.slof import SLOF, slof

Tiny = Callable[[str], CLIP]


def test_it_is_the_mean_of_the_ratios(points: Any, around: Callable[[Any], Any]) -> None:
    found, k = slof(nearest(torch.from_numpy(points), k=6)), 6
    every = around(points)
    expected = [
        sum(one.k_distance(k) / every[o].k_distance(k) for o, _ in one.others[:k]) / k
        for one in every
    ]
    assert found.tolist() == pytest.approx(expected)


def test_it_is_that_of_four_points_on_a_line() -> None:
    # The k-distances, k = 1, are 1, 1, 2 and 4 at 0, 1, 3 and 7; their neighbors 1, 0, 1 and 3.
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert slof(nearest(line, k=1)).tolist() == [1.0, 1.0, 2.0, 2.0]


def test_the_odd_one_scores_highest(tiny: Tiny, spotted: ImageTextPairs) -> None:
    scores = SLOF("slof", 60, 4).scores(tiny("resnet"), spotted, seed=0)
    assert int(scores.argmax()) == 59


def test_a_batch_without_room_for_the_neighbors_is_said_before_any_work() -> None:
    # Batches are made equal: of 37 pairs, two of 19 and 18, the fewest for 16 neighbors.
    with pytest.raises(ValueError, match="batch_size is at least 36 for 16 neighbors, got 35"):
        SLOF("slof", 35, 16)


def test_a_batch_larger_than_the_data_is_said_before_any_work(plain: DataBundle) -> None:
    detector = SLOF("slof", 40, 16)
    check_detector(detector, plain, poisoned_pairs=True, pairs=40)
    said = "detector slof takes batches of 40 pairs, the attack trains on 39: take a smaller batch"
    with pytest.raises(ValueError, match=said):
        check_detector(detector, plain, poisoned_pairs=True, pairs=39)
