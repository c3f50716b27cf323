from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.baselines.ssl_cleanse import Consistency, SSLCleansing, consistency_loss
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.detectors.ssl_cleanse import Schedule, SSLCleanse
from invertune.evidence import Evidence
from invertune.perturb import Augmentation
from invertune.perturb.triggers import InvertedTrigger
from invertune.training import Batch, Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(
    20, 6, 3e-3, (0.9, 0.999), 0.0, 0.1, freeze_text=True, freeze_batch_norm=True
)  # fmt: skip
DETECT = SSLCleanse(
    "ssl_cleanse", images=12, clusters=3, starts=2, steps=4, batch_size=2, held=2, look_every=2,
    lr=0.3, betas=(0.5, 0.9), schedule=Schedule(0.5, 2.0, 2, 0.01), threshold=2.0,
)  # fmt: skip
REPAIR = SSLCleansing(
    "ssl_cleanse", DETECT, RECIPE, {"clean": 1.0, "triggered": 1.0}, Augmentation()
)


def _still(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def test_the_loss_is_a_weighed_sum_of_squared_distances() -> None:
    drawn = np.random.default_rng(0).normal(size=(3, 5, 4))
    clean, triggered, wanted = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    expected = sum(
        weight * np.mean([2 - 2 * a @ b for a, b in zip(own, wanted, strict=True)])
        for weight, own in ((0.5, clean), (3.0, triggered))
    )
    tensors = [torch.from_numpy(one) for one in (clean, triggered, wanted)]
    found = consistency_loss(*tensors, {"clean": 0.5, "triggered": 3.0})
    assert float(found) == pytest.approx(expected)


def test_at_the_start_only_the_trigger_counts(
    taught: Taught, plain: DataBundle, stamp: InvertedTrigger
) -> None:
    model, images = taught("vit"), to_float(plain.clean.images[:])
    index = torch.arange(12)
    batch = Batch(images, torch.zeros(12, 1), index, torch.zeros(0, 1), index, 0)
    by_term = {
        name: float(Consistency(model, stamp, weights, _still, 0)(model, batch))
        for name, weights in (
            ("clean", {"clean": 1.0, "triggered": 0.0}),
            ("triggered", {"clean": 0.0, "triggered": 1.0}),
        )
    }
    wanted, seen = model.encode_image(images), model.encode_image(stamp(images))
    assert by_term["clean"] == pytest.approx(0, abs=1e-5)
    assert by_term["triggered"] == pytest.approx(
        float(2 - 2 * F.cosine_similarity(wanted, seen).mean()), rel=1e-4
    )


def test_the_triggered_image_is_brought_to_what_the_clean_one_was(
    taught: Taught, plain: DataBundle, state: State, stamp: InvertedTrigger
) -> None:
    model, images = taught("resnet"), to_float(plain.clean.images[:])
    found = REPAIR.repair(model, plain.clean, Evidence(triggers=[stamp]), seed=0)
    wanted = model.encode_image(images)

    def distances(one: CLIP) -> list[float]:
        both = (one.encode_image(images), one.encode_image(stamp(images)))
        return [float((own - wanted).square().sum(dim=1).mean()) for own in both]

    (clean_before, before), (clean_after, after) = distances(model), distances(found.model)
    assert clean_before == 0
    assert after < 0.3 * before
    assert clean_after < 0.3 * before
    assert found.steps == 40
    assert len(found.evidence.curves["purify loss"]) == 40
    one, other = state(found.model), state(taught("resnet"))
    moved = {name for name in one if not torch.equal(one[name], other[name])}
    assert moved
    assert all(name.startswith("clip.visual.") for name in moved)
    assert all(torch.equal(own, other[name]) for name, own in state(model).items())


def test_both_stages_are_the_whole_repair(taught: Taught, plain: DataBundle, state: State) -> None:
    whole = REPAIR.purify(taught("resnet"), plain.clean, seed=3)
    found = REPAIR.search(taught("resnet"), plain.clean, seed=3)
    assert len(found.triggers) == 1
    parts = REPAIR.repair(taught("resnet"), plain.clean, found, seed=3)
    one, other = state(whole.model), state(parts.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    detected = DETECT.detect(taught("resnet"), plain.clean, seed=3)
    assert whole.evidence.findings["anomaly"] == detected.score
    assert whole.evidence.findings["flagged"] == detected.flagged
    assert {"distance", "purify loss"} < set(whole.evidence.curves)
    assert {"inversion", "purify"} == set(whole.evidence.seconds)


def test_without_a_trigger_the_model_stays(taught: Taught, plain: DataBundle, state: State) -> None:
    model = taught("resnet")
    found = REPAIR.repair(model, plain.clean, Evidence(findings={"anomaly": 0.0}), seed=0)
    assert found.steps == 0
    assert found.model is not model
    one, other = state(found.model), state(model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_its_work_is_known() -> None:
    found = REPAIR.work(7)
    assert (found["purify"].forward, found["purify"].trained) == (240, 480)
    assert found["search"] == DETECT.work(0)["detect"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": {"clean": 1.0}}, "weights are of clean, triggered, got clean"),
        ({"recipe": replace(RECIPE, freeze_text=False)}, "recipe.freeze_text is true"),
        ({"augment": 3}, "augment is an object with a _target_, got 3"),
        ({"detect": None}, "detect is a SSLCleanse, got None"),
    ],
)
def test_wrong_values_are_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(REPAIR, **change)
