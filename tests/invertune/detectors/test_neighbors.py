from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.detectors.neighbors import Neighbors, batches, nearest, score_pairs
from invertune.seeds import seeded

Tiny = Callable[[str], CLIP]


def test_neighbors_are_the_nearest_others(points: Any, around: Callable[[Any], Any]) -> None:
    found = nearest(torch.from_numpy(points), k=3)
    for i, expected in enumerate(around(points)):
        assert found.places[i].tolist() == [other for other, _ in expected.others[:3]]
        distances = [far for _, far in expected.others[:4]]
        assert found.distances[i].tolist() == pytest.approx(distances)
        assert float(found.k_distance[i]) == pytest.approx(distances[2])


def test_nobody_is_its_own_neighbor_and_a_copy_is_one() -> None:
    line = torch.tensor([[0.0], [0.0], [1.0], [3.0]])
    found = nearest(line, k=1)
    assert found.places.flatten().tolist()[:2] == [1, 0]
    assert found.distances.tolist() == [[0, 1], [0, 1], [1, 1], [2, 3]]
    assert line.flatten().tolist() == [0, 0, 1, 3]


def test_distances_of_near_copies_are_no_rounding_errors() -> None:
    points = torch.tensor([[1e4, 0.0], [1e4, 0.0], [1e4, 1.0], [0.0, 0.0]], dtype=torch.float32)
    points[1, 1] = 2**-10
    assert nearest(points, k=1).distances[0, 0] == 2**-10


def test_ratios_of_copies_are_one_and_beside_them_infinite() -> None:
    ratios = nearest(torch.tensor([[0.0], [0.0], [0.0], [2.0], [5.0]]), k=2).ratios
    assert ratios[:3].tolist() == [[1.0, 1.0]] * 3
    assert ratios[3].tolist() == [torch.inf] * 2
    assert not ratios.isnan().any()


@pytest.mark.parametrize("k", [0, 3])
def test_too_many_neighbors_are_one_line(k: int) -> None:
    with pytest.raises(ValueError, match=f"at most a batch less 2, got {k} of 4 samples"):
        nearest(torch.zeros(4, 2), k)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(10, 4, [4, 3, 3]), (8, 4, [4, 4]), (9, 4, [3, 3, 3]), (3, 4, [3]), (0, 4, [])],
)
def test_batches_are_as_equal_as_they_can_be(count: int, size: int, sizes: list[int]) -> None:
    parts = batches(count, size, seeded(0, "test"))
    assert [len(part) for part in parts] == sizes
    assert Counter(int(i) for part in parts for i in part) == Counter(range(count))


def test_batches_are_random_and_the_seed_decides_them() -> None:
    first, same, other = (batches(100, 50, seeded(seed, "test")) for seed in (0, 0, 1))
    assert torch.equal(first[0], same[0])
    assert not torch.equal(first[0], other[0])
    assert first[0].max() >= 50
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        batches(100, 0, seeded(0, "test"))


def test_every_pair_is_compared_inside_its_batch(tiny: Tiny, spotted: ImageTextPairs) -> None:
    seen: list[int] = []

    def mean(neighbors: Neighbors) -> Tensor:
        seen.append(len(neighbors.places))
        return neighbors.distances.mean(dim=1)

    model = tiny("resnet")
    found = score_pairs("test", model, spotted, 25, 4, mean, seed=3)
    assert seen == [20, 20, 20]
    assert (found.dtype, found.shape) == (torch.float32, (60,))
    features = encode_images(model, spotted.images, unit=False).double().numpy()
    for part in batches(60, 25, seeded(3, "detector batches")):
        for i in part.tolist():
            others = [j for j in part.tolist() if j != i]
            far = np.sort(np.linalg.norm(features[others] - features[i], axis=1))
            assert float(found[i]) == pytest.approx(far[:5].mean(), rel=1e-5)


def test_features_are_as_long_as_the_tower_makes_them(tiny: Tiny, spotted: ImageTextPairs) -> None:
    model = tiny("vit")
    long, unit = (encode_images(model, spotted.images, unit=unit) for unit in (False, True))
    assert (long.norm(dim=1) - 1).abs().min() > 0.01
    assert torch.allclose(torch.nn.functional.normalize(long, dim=1), unit, atol=1e-5)


def test_infinite_scores_become_a_thousand(tiny: Tiny, spotted: ImageTextPairs) -> None:
    def score(neighbors: Neighbors) -> Tensor:
        return torch.where(neighbors.k_distance == neighbors.k_distance.max(), torch.inf, 2000.0)

    found = score_pairs("test", tiny("vit"), spotted, 60, 4, score, seed=0)
    assert sorted(set(found.tolist())) == [1000.0, 2000.0]
