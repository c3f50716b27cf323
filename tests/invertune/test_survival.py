from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Survival
from invertune.perturb.families import Family, SmoothMask, SmoothOffset
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking
from invertune.survival import Pool, SurvivalScan, leader

EFFORTS = [Effort(15, 2), Effort(10, 4, classes=3), Effort(10, 4, classes=2, pace=0.5)]
SCAN = SurvivalScan(
    forms=[
        Shrinking(SmoothMask(), [0.5, 0.3, 0.2, 0.1], lr=0.3),
        Shrinking(SmoothOffset(grid=16), [0.2, 0.1, 0.05], lr=0.3),
    ],
    efforts=EFFORTS, images=6, held=6, temperature=0.07, judged=2,
)  # fmt: skip


def test_the_planted_class_survives(planted: CLIP, colored: CleanData) -> None:
    found = SCAN(planted, colored, seed=0)
    assert colored.class_names[found.target_label] == "planted"
    assert found.gain > found.runner_up_gain
    assert found.order[0] == found.target_label
    assert found.order[1] == found.runner_up
    mask, offset = found.survival
    assert (mask.form, offset.form) == ("mask", "low_frequency")
    assert mask.budgets == [0.2, 0.1]
    assert offset.budgets == [0.05]
    assert all(len(labels) == 2 for labels in mask.classes)
    assert all(0 <= share <= 1 for shares in mask.success for share in shares)


def test_random_triggers_stand_beside_the_forms(
    planted: CLIP, colored: CleanData, laid: Callable[..., Family]
) -> None:
    scan = dataclasses.replace(SCAN, forms=SCAN.forms[1:], probes=[Probe(laid(), [0.5], draws=2)])
    found = scan(planted, colored, seed=0)
    assert [one.form for one in found.survival] == ["low_frequency", "checkers"]
    assert found.survival[1].classes == [[0, 1, 2, 3]]
    assert colored.class_names[found.target_label] == "planted"


def test_the_seed_alone_decides(planted: CLIP, colored: CleanData) -> None:
    first = SCAN(planted, colored, seed=0)
    torch.rand(10)
    assert SCAN(planted, colored, seed=0) == first
    assert SCAN(planted, colored, seed=1).survival != first.survival


def test_passes_are_those_that_the_model_makes(
    planted: CLIP, colored: CleanData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, encode = [], type(planted).encode_image

    def counted(model: CLIP, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images) * torch.is_grad_enabled())
        return encode(model, images)

    monkeypatch.setattr(type(planted), "encode_image", counted)
    one = dataclasses.replace(SCAN, forms=SCAN.forms[:1])
    one(planted, colored, seed=0)
    assert sum(seen) == one.passes(4) == 15 * 2 * 4 + 10 * 4 * 3 + 2 * 10 * 4 * 2
    assert one.passes(1000) == 15 * 2 * 1000 + 10 * 4 * 3 + 2 * 10 * 4 * 2
    both = 2 * (15 * 2 * 1000 + 10 * 4 * 3) + 3 * 10 * 4 * 2  # 4 budgets, and 3
    assert SCAN.passes(1000) == both


def test_images_are_optimized_on_or_judged_on(planted: CLIP, colored: CleanData) -> None:
    images = colored.images[:].clone()
    images[:, 0, 0, 0] = torch.arange(12).byte()  # a number for each
    numbered = dataclasses.replace(colored, images=images)
    pool = Pool.of(planted, numbered, 5, 7, 0.07, seed=0, stage="scan")
    first, second = (set(part[:, 0, 0, 0].tolist()) for part in (pool.suspect.images, pool.held))
    assert first | second == set(range(12))
    assert not first & second
    assert len(pool.own) == 7
    with pytest.raises(ValueError, match="images=6 and held=7 need 13 clean images, got 12"):
        Pool.of(planted, numbered, 6, 7, 0.07, seed=0, stage="scan")
    red = dataclasses.replace(colored, prompts=["red", "a red"])
    with pytest.raises(ValueError, match="the model's texts tell none of the 2 classes apart"):
        Pool.of(planted, red, 6, 6, 0.07, seed=0, stage="scan")


def test_a_lead_is_over_the_best_other_class_of_the_same_form() -> None:
    pulls = [[1.0, 1, 1], [0.9, 0.5, 0], [0.7, 0.3, 0]]
    one = Survival("mask", [0.3, 0.2, 0.1], [[0, 1, 2]] * 3, success=[[1.0] * 3] * 3, pull=pulls)
    assert one.lead(0, 1) == pytest.approx(0.4)
    assert one.lead(1, 1) == pytest.approx(-0.4)
    assert one.lead(7, 1) == pytest.approx(-0.9)
    assert one.leads(0, last=2) == pytest.approx([0.4, 0.4])
    assert one.leads(0, last=9) == pytest.approx([0, 0.4, 0.4])
    halved = Survival("mask", [0.2, 0.1], [[0, 1], [1]], [[1.0, 1.0], [1.0]], [[0.9, 0.5], [0.3]])
    assert halved.lead(0, 1) == pytest.approx(-0.3)
    assert halved.leads(1, last=2) == pytest.approx([-0.4, 0.3])


def test_the_leader_may_lead_in_any_form() -> None:
    mask = Survival("mask", [0.1], [[0, 1]], [[1.0, 1.0]], [[0.5, 0.45]])
    warp = Survival("warp", [0.1], [[2, 0]], [[1.0, 1.0]], [[0.4, 0.1]])
    found = leader([mask, warp], judged=1)
    assert found.order[:2] == [2, 0]
    assert (found.gain, found.runner_up_gain) == (pytest.approx(0.3), pytest.approx(0.05))


def test_what_makes_no_sense() -> None:
    for changes, message in (
        ({"forms": []}, "a scan has at least one form and one effort"),
        ({"efforts": [3]}, "efforts is a list of Efforts"),
        ({"judged": 0}, "judged is an integer of at least 1, got 0"),
        ({"temperature": 0}, "temperature is positive, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SCAN, **changes)
