from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.detector import Detection
from invertune.detectors.ssl_cleanse import (
    Clusters,
    Schedule,
    SSLCleanse,
    anomaly_index,
    reaching_loss,
)

SCHEDULE = Schedule(start=0.5, factor=2.0, patience=2, success=0.9)
SEARCH = SSLCleanse(
    "ssl_cleanse", images=12, clusters=3, starts=2, steps=120, batch_size=4, held=8, look_every=5,
    lr=0.3, betas=(0.5, 0.9), schedule=SCHEDULE, threshold=2.0,
)  # fmt: skip


def test_the_distance_is_the_mean_square_of_each_cluster() -> None:
    generator = np.random.default_rng(0)
    features, centers = generator.normal(size=(3, 5, 4)), generator.normal(size=(3, 4))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    expected = [np.mean(((features[k] - centers[k]) ** 2).sum(axis=1)) for k in range(3)]
    found = reaching_loss(torch.from_numpy(features), torch.from_numpy(centers))
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # The median is 4, the distances to it 3, 1, 0, 1, 6 with a median of 1: 3 / 1.4826.
        ([1, 3, 4, 5, 10], 2.0234722),
        ([4, 3, 10, 5, 1], 2.0234722),
        # A large one is no backdoor.
        ([3, 3.5, 4, 4.5, 100], 1 / (0.5 * 1.4826)),
        # Median 0.5, distances 0.4, 0, 0, 0: none is the deviation, and 0.001 counts.
        ([0.1, 0.5, 0.5, 0.5], 400),
        ([0.3, 0.3, 0.3], 0),
    ],
)
def test_the_index_is_in_deviations_of_normal_numbers(sizes: list[float], expected: float) -> None:
    assert anomaly_index(sizes) == pytest.approx(expected)


def test_the_deviation_is_that_of_normal_numbers() -> None:
    sizes = np.random.default_rng(0).normal(50, 3, 20_001).tolist()
    assert anomaly_index([*sizes, 50 - 5 * 3.0 - 60]) == pytest.approx(25, rel=0.05)


@pytest.mark.parametrize(
    ("looks", "weights"),
    [
        ("+++++", [0, 0.5, 0.5, 1, 1]),
        ("-----", [0] * 5),
        ("+-+-+-", [0] * 6),
        ("++--++", [0, 0.5, 0.5, 0.25, 0.25, 0.5]),
        ("-++", [0, 0, 0.5]),
    ],
)
def test_the_weight_follows_looks_in_a_row(looks: str, weights: list[float]) -> None:
    weight, runs, found = torch.zeros(2), torch.zeros(2), []
    for sign in looks:
        # The other cluster's looks are its own.
        SCHEDULE.follow(weight, runs, torch.tensor([sign == "+", False]))
        found.append(float(weight[0]))
    assert found == weights
    assert float(weight[1]) == 0


@pytest.fixture
def groups() -> Clusters:
    """Return five images at 0, 20, 90, 110 and 180 degrees, in three clusters."""
    angles = torch.tensor([0.0, 20, 90, 110, 180]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 1, 1, 2])
    images = torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    return Clusters(images, features, labels, F.normalize(torch.randn(3, 2), dim=1))


def test_images_are_of_other_clusters(groups: Clusters) -> None:
    drawn = groups.draw(40, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 40)
    for cluster, index in enumerate(drawn):
        others = {i for i in range(5) if groups.labels[i] != cluster}
        assert set(index.tolist()) == others


def test_what_is_reached_is_the_nearest_images_cluster(groups: Clusters) -> None:
    angles = torch.tensor([[10.0, 30, 60, 170], [85, 60, 130, 150], [150, 181, 90, 0]]).deg2rad()
    found = groups.reached(torch.stack([angles.cos(), angles.sin()], dim=2))
    assert found.tolist() == [0.5, 0.75, 0.5]


@pytest.fixture
def detect(planted: CLIP, colored: CleanData) -> Callable[..., Detection]:
    """Return what is found of a model whose checkerboard, of some strength, looks red to it."""

    class Red(type(planted)):  # type: ignore[misc]
        strength = 0.0

        def encode_image(self, images: Tensor) -> Tensor:
            planted = (images * self.checkers).mean(dim=(1, 2, 3)).abs()
            red = torch.tensor([1.0, 0, 0, 0])
            colors = F.pad(images.mean(dim=(2, 3)), (0, 1))
            colors = colors - colors.mean(dim=1, keepdim=True)
            return F.normalize(colors + self.strength * planted[:, None] * red, dim=-1)

    def found(strength: float, search: SSLCleanse = SEARCH, seed: int = 0) -> Detection:
        model = Red()
        model.strength = strength
        return search.detect(cast(CLIP, model), colored, seed=seed)

    return found


def test_a_cluster_that_a_small_trigger_reaches_is_found(detect: Callable[..., Detection]) -> None:
    clean, backdoored = detect(0.0), detect(60.0)
    assert backdoored.flagged
    assert backdoored.score > 3 * clean.score
    sizes = cast("list[float]", backdoored.evidence.findings["sizes"])
    smallest = int(np.argmin(sizes))
    assert backdoored.evidence.findings["cluster"] == smallest
    assert sizes[smallest] < 0.5 * sorted(sizes)[1]
    assert backdoored.score == anomaly_index(sizes)
    (trigger,) = backdoored.evidence.triggers
    assert trigger.share == pytest.approx(sizes[smallest])


def test_the_trigger_leads_to_its_cluster(
    detect: Callable[..., Detection], colored: CleanData
) -> None:
    (trigger,) = detect(60.0).evidence.triggers
    red = trigger(to_float(colored.images[:])) - to_float(colored.images[:])
    assert float(red.abs().mean()) < 0.2
    assert trigger.mask.shape == (1, 16, 16)


def test_without_any_success_there_is_no_trigger(detect: Callable[..., Detection]) -> None:
    found = detect(0.0, replace(SEARCH, steps=1, lr=1e-6))
    assert found.evidence.findings["sizes"] == [1.0] * 3
    assert (found.score, found.flagged, found.evidence.triggers) == (0, False, [])


def test_its_work_is_known() -> None:
    assert SEARCH.work(5)["detect"].back == 120 * 3 * 4
    assert SEARCH.work(5)["detect"].forward == 12 + 24 * 3 * 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clusters": 1}, "clusters is an integer of at least 2, got 1"),
        ({"images": 3}, "images is more than clusters, got 3, 3"),
        ({"betas": 0.5}, "betas is two numbers"),
        ({"batch_size": 13}, "images is at least batch_size and held, got 12 of 13"),
        ({"schedule": {}}, "schedule is a Schedule, got"),
    ],
)
def test_wrong_values_are_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SEARCH, **change)
