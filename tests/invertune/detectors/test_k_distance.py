from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.detectors.k_distance import KDistance, k_distance
from invertune.detectors.neighbors import nearest

Tiny = Callable[[str], CLIP]


def test_it_is_the_distance_to_the_kth_other(points: Any, around: Callable[[Any], Any]) -> None:
    found = k_distance(nearest(torch.from_numpy(points), k=7))
    assert found.tolist() == pytest.approx([one.k_distance(7) for one in around(points)])


def test_the_odd_one_scores_highest(tiny: Tiny, spotted: ImageTextPairs) -> None:
    scores = KDistance("k_distance", 60, 4).scores(tiny("resnet"), spotted, seed=0)
    assert int(scores.argmax()) == 59


def test_a_seed_decides_the_batches(tiny: Tiny, spotted: ImageTextPairs) -> None:
    model, detector = tiny("vit"), KDistance("k_distance", 20, 4)
    first = detector.scores(model, spotted, seed=0)
    torch.rand(3)  # moves the global generator
    assert torch.equal(detector.scores(model, spotted, seed=0), first)
    assert not torch.equal(detector.scores(model, spotted, seed=1), first)


def test_batches_that_are_too_small_are_one_line(tiny: Tiny, spotted: ImageTextPairs) -> None:
    count = len(spotted)
    detector = KDistance("k_distance", 2 * count + 4, count)
    with pytest.raises(ValueError, match=f"got {count} of {count} samples"):
        detector.scores(tiny("vit"), spotted, seed=0)
