from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.detectors.decree import DECREE, Balance, mean_cosine, squashed

BALANCE = Balance(start=1e-5, factor=5, patience=5, floor=1e-7)
SEARCH = DECREE(
    "decree", images=12, batch_size=6, epochs=60, patience=35, lrs=[0.5, 0.1, 0.05],
    drops=[0.2, 0.5], betas=(0.5, 0.9), success=0.99, balance=BALANCE, threshold=0.3,
    paper_threshold=0.1,
)  # fmt: skip


def test_the_mean_is_over_different_rows() -> None:
    rows = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = rows.double().numpy() @ rows.double().numpy().T
    expected = np.mean([cosines[i, j] for i in range(5) for j in range(5) if i != j])
    assert float(mean_cosine(rows)) == pytest.approx(expected, rel=1e-5)
    assert float(mean_cosine(torch.eye(3))) == pytest.approx(0, abs=1e-7)
    assert float(mean_cosine(torch.tensor([[0.6, 0.8]]).expand(7, -1))) == pytest.approx(1)


def test_free_numbers_become_shares() -> None:
    found = squashed(torch.tensor([-60.0, -1.0, 0.0, 1.0, 60.0], dtype=torch.float64))
    middle = np.tanh(1) / (2 - 1e-7)
    assert found.tolist() == pytest.approx([0, 0.5 - middle, 0.5, 0.5 + middle, 1], abs=1e-7)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.parametrize(
    ("seen", "weights"),
    [
        ("+++", [1, 1, 5]),  # the third success in a row is more than two
        ("++++++", [1, 1, 5, 5, 5, 25]),
        ("++-++-", [1] * 6),  # none in a row
        ("---", [1, 1, 0.2]),
        ("-" * 9, [1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.04, 0.04]),  # below the floor it stays
        ("---+++", [1, 1, 0.2, 0.2, 0.2, 1]),
    ],
)
def test_the_weight_follows_success(seen: str, weights: list[float]) -> None:
    weight, found = Balance(start=1, factor=5, patience=2, floor=0.1).weights(), []
    for sign in seen:
        weight.follow(sign == "+")
        found.append(weight.value)
    assert found == pytest.approx(weights)


@pytest.fixture
def clean(planted: CLIP) -> CLIP:
    """Return the same model without its backdoor."""
    with torch.no_grad():
        planted.checkers.zero_()  # type: ignore[operator, union-attr]
    return planted


def test_a_backdoored_model_has_a_small_mask(planted: CLIP, colored: CleanData) -> None:
    found = SEARCH.detect(planted, colored, seed=0)
    share = found.evidence.findings["pl1"]
    assert isinstance(share, float)
    assert share < 0.3
    assert found.flagged
    assert (found.score, found.threshold) == (1 - share, 0.7)
    assert found.evidence.findings["pl1_of_pixels"] == 3 * share
    assert found.evidence.findings["flagged_by_paper_threshold"] == (share < 0.1)
    (trigger,) = found.evidence.triggers
    assert trigger.share == pytest.approx(share)
    stamped = planted.encode_image(trigger(to_float(colored.images[:]))).detach()
    assert float(mean_cosine(stamped)) > 0.98
    assert float(mean_cosine(planted.encode_image(to_float(colored.images[:])))) < 0.9


def test_a_clean_model_needs_a_larger_one(clean: CLIP, colored: CleanData) -> None:
    found = SEARCH.detect(clean, colored, seed=0)
    assert not found.flagged
    assert found.score < 0.6


def test_nothing_found_is_the_whole_image(planted: CLIP, colored: CleanData) -> None:
    found = replace(SEARCH, epochs=1, success=0.999999, threshold=0.9)
    detection = found.detect(planted, replace(colored, images=colored.images), seed=0)
    assert (detection.score, detection.flagged, detection.evidence.triggers) == (0, False, [])


def test_the_mask_weighs_as_much_in_small_images(planted: CLIP, colored: CleanData) -> None:
    """The first steps' weight times 224 * 224 * 3 is far above any cosine, so the mask shrinks."""
    heavy, light = (
        replace(SEARCH, epochs=3, balance=replace(BALANCE, start=start))
        .detect(planted, colored, seed=0)
        .evidence.curves
        for start in (1e-3, 1e-9)
    )
    assert heavy["mask"][0] == light["mask"][0]
    assert heavy["mask"][-1] < 0.6 * heavy["mask"][0]
    assert light["mask"][-1] > 0.8 * light["mask"][0]
    assert heavy["weight"][0] == 1e-3


def test_it_ends_with_an_epoch_without_a_smaller_mask(planted: CLIP, colored: CleanData) -> None:
    found = replace(SEARCH, patience=3).detect(planted, colored, seed=0).evidence
    cosines, masks = np.array(found.curves["cosine"]), np.array(found.curves["mask"])
    steps = found.findings["steps"]
    assert steps == len(cosines) < 120
    assert steps % 2 == 0  # of two batches
    best = min(range(steps), key=lambda i: (masks[i] if cosines[i] > 0.99 else 1, i))
    assert 3 < steps - best <= 3 + 2 + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 1}, "batch_size is an integer of at least 2, got 1"),
        ({"images": 5}, "images is at least batch_size, got 5, 6"),
        ({"lrs": [0.5]}, "lrs is one more than drops, got 1 and 2"),
        ({"drops": [0.5, 0.2]}, r"drops are shares below 1 that ascend, got \[0.5, 0.2\]"),
        ({"drops": [0.2, 1.0]}, "drops are shares below 1 that ascend, got"),
        ({"betas": (0.5, 5)}, "betas is two numbers in"),
        ({"drops": ["a"]}, "drops is a list of positive numbers, got"),
        ({"drops": None}, "drops is a list of positive numbers, got None"),
        ({"threshold": 0}, "threshold is a share in"),
        ({"balance": None}, "balance is a Balance, got None"),
    ],
)
def test_wrong_values_are_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SEARCH, **change)


def test_a_weight_that_would_not_move_is_refused() -> None:
    with pytest.raises(ValueError, match="factor is more than 1, got 1"):
        Balance(1e-3, 1, 5, 1e-7)
