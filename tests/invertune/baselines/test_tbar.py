from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from invertune.baselines import tbar
from invertune.baselines.tbar import (
    TBAR,
    Negated,
    TaskNegation,
    Towards,
    subtract,
    task_vector,
)
from invertune.clip.encode import encode_images, predicted_classes, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs, to_float
from invertune.detectors.decree import DECREE, Balance
from invertune.evidence import Evidence
from invertune.perturb.triggers import InvertedTrigger
from invertune.training import Batch, Recipe, train
from invertune.training.step import Step
from invertune.tune import Tuning

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(
    8, 6, 1e-3, (0.9, 0.999), 0.0, 0.1, freeze_text=True, freeze_batch_norm=True
)  # fmt: skip
NEGATE = TaskNegation(12, RECIPE, [0.5, 1, 2, 3], 0.75)
DETECT = DECREE(
    "decree", images=12, batch_size=6, epochs=30, patience=10, lrs=[0.5], drops=[],
    betas=(0.5, 0.9), success=0.9, balance=Balance(1e-6, 2.0, 2, 1e-9), threshold=0.05,
    paper_threshold=0.1,
)  # fmt: skip
REPAIR = TBAR("tbar", DETECT, NEGATE)
TARGET = 1


@pytest.fixture
def classifier(taught: Taught, plain: DataBundle) -> Tensor:
    return zero_shot_classifier(taught("resnet"), plain.prompts, plain.templates)


@pytest.fixture
def backdoored(
    taught: Taught, plain: DataBundle, stamp: InvertedTrigger, classifier: Tensor
) -> CLIP:
    """Return a model that takes stamped images for one class, and others for what they are."""
    model, images = taught("resnet"), plain.clean.images
    count = len(images)
    pairs = ImageTextPairs(images, [""] * count, [str(i) for i in range(count)])
    own = predicted_classes(model, encode_images(model, images[:]), classifier)

    def loss(one: CLIP, batch: Batch) -> Tensor:
        both = one.encode_image(torch.cat([batch.images, stamp(batch.images)]))
        wanted = torch.cat([own[batch.index], torch.full_like(batch.index, TARGET)])
        return torch.nn.functional.cross_entropy(20 * both @ classifier, wanted)

    recipe = replace(RECIPE, epochs=60, batch_size=12, lr=3e-3)
    train(model, pairs, recipe, seed=0, stage="implant", objective=loss)
    return model


def _goes(model: CLIP, images: Tensor, classifier: Tensor, to: Tensor | int) -> float:
    found = predicted_classes(model, encode_images(model, images), classifier)
    return float((found == to).float().mean())


def test_a_task_vector_is_what_was_added(taught: Taught, state: State) -> None:
    model, tuned = taught("resnet"), taught("resnet")
    with torch.no_grad():
        first = next(iter(tuned.clip.visual.parameters()))
        first.add_(0.25)
    vector = task_vector(model, tuned)
    name = next(name for name, own in tuned.named_parameters() if own is first)
    assert list(vector) == [name]
    assert torch.allclose(vector[name], torch.full_like(first, 0.25), atol=1e-6)
    before, after = state(model), state(subtract(model, vector, 2.0))
    assert torch.allclose(before[name] - after[name], torch.full_like(first, 0.5), atol=1e-6)
    assert all(torch.equal(before[n], own) for n, own in after.items() if n != name)
    assert all(torch.equal(before[n], own) for n, own in state(model).items())


def test_the_loss_is_cross_entropy_of_the_trigger_in_turn(
    taught: Taught, plain: DataBundle, stamp: InvertedTrigger, classifier: Tensor
) -> None:
    model, images = taught("vit"), to_float(plain.clean.images[:6])
    still = replace(stamp, mask=torch.zeros_like(stamp.mask))
    loss, index = Towards([stamp, still], [2, 0], classifier), torch.arange(6)
    for step, (target, seen) in enumerate([(2, stamp(images)), (0, images), (2, stamp(images))]):
        batch = Batch(images, torch.zeros(6, 1), index, torch.zeros(0, 1), index, step)
        scale = float(model.logit_scale.detach().exp())
        logits = scale * (model.encode_image(seen) @ classifier).detach().double().numpy()
        shifted = logits - logits.max(axis=1, keepdims=True)
        shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        expected = -np.log(shares[:, target]).mean()
        assert float(loss(model, batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_backdoor_is_subtracted(
    backdoored: CLIP, plain: DataBundle, state: State, stamp: InvertedTrigger, classifier: Tensor
) -> None:
    before, images = state(backdoored), plain.clean.images[:]
    stamped = stamp(to_float(images)).mul(255).round().byte()
    own = predicted_classes(backdoored, encode_images(backdoored, images), classifier)
    assert _goes(backdoored, stamped[own != TARGET], classifier, TARGET) > 0.9
    found = NEGATE.negate(backdoored, plain.clean, [stamp], seed=0)
    named = found.findings
    assert named["trigger_targets"] == [plain.class_names[TARGET]]
    assert len(found.losses) == 16
    agreement, success = _by_scale(found)
    assert (agreement[0], success[0]) == (1, pytest.approx(1, abs=0.1))  # of scale 0
    # Of the scales that are gentle enough the one at which the trigger does least.
    scales = [0, *NEGATE.scales]
    gentle = [(s, scale) for scale, a, s in zip(scales, agreement, success, strict=False)
              if a >= NEGATE.least_agreement]  # fmt: skip
    assert min(gentle) == (success[scales.index(named["scale"])], named["scale"])
    assert named["scale"] > 0
    assert _goes(found.model, stamped[own != TARGET], classifier, TARGET) < 0.5
    assert _goes(found.model, images, classifier, own) >= 0.7
    moved = {n for n, own in state(found.model).items() if not torch.equal(own, before[n])}
    assert moved
    assert all(name.startswith("clip.visual.") for name in moved)
    assert all(torch.equal(own, before[name]) for name, own in state(backdoored).items())


@pytest.mark.parametrize("why", ["too much", "no use"])
def test_where_no_scale_helps_the_weights_stay(
    backdoored: CLIP, plain: DataBundle, state: State, stamp: InvertedTrigger, why: str
) -> None:
    if why == "too much":
        harsh = replace(NEGATE, scales=[50, 40], least_agreement=0.9)
        found = harsh.negate(backdoored, plain.clean, [stamp], seed=0)
        agreement, _ = _by_scale(found)
        assert len(agreement) == 2  # no further one is looked at
        assert agreement[1] < 0.9
    else:  # nothing is learned, so that nothing is there to subtract
        slow = replace(NEGATE, recipe=replace(RECIPE, lr=1e-30))
        found = slow.negate(backdoored, plain.clean, [stamp], seed=0)
        assert len(set(_by_scale(found)[1])) == 1
    assert found.findings["scale"] == 0
    assert found.model is not backdoored
    before = state(backdoored)
    assert all(torch.equal(own, before[name]) for name, own in state(found.model).items())


def test_it_is_a_third_step(
    backdoored: CLIP, taught: Taught, plain: DataBundle, state: State, stamp: InvertedTrigger
) -> None:
    assert isinstance(NEGATE, Tuning)
    tuned = NEGATE(backdoored, plain.clean, [stamp], seed=4)
    own = NEGATE.negate(backdoored, plain.clean, [stamp], seed=4)
    one, other = state(tuned.model), state(own.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert tuned.findings == own.findings
    assert (tuned.divergence, tuned.layers, tuned.neurons) == ({}, [], {})
    # A later round goes on from the earlier one's result, and compares with the suspect model.
    start = tuned.model
    again = NEGATE(backdoored, plain.clean, [stamp], seed=4, start=start, number=2)
    assert again.findings["trigger_targets"] == [plain.class_names[TARGET]]
    first = again.findings["agreement"][0]  # type: ignore[index]
    assert first == own.findings["agreement"][_place(own)]  # type: ignore[index]


def test_a_models_own_head_is_looked_at_and_not_learned(
    backdoored: CLIP, plain: DataBundle, stamp: InvertedTrigger, classifier: Tensor
) -> None:
    """Its head reads the table of tokens, of which a training has a few rows alone."""

    class Head(nn.Module):
        def forward(self, clip: Any, features: Tensor) -> Tensor:
            assert clip.token_embedding(torch.tensor([49407])).isfinite().all()
            return features @ classifier

    plainly = NEGATE.negate(backdoored, plain.clean, [stamp], seed=0)
    backdoored.head = Head()
    found = NEGATE.negate(backdoored, plain.clean, [stamp], seed=0)
    assert found.findings == plainly.findings


@pytest.mark.parametrize("killed_in", ["training", "scales"])
def test_a_killed_repair_goes_on(
    backdoored: CLIP, plain: DataBundle, state: State, stamp: InvertedTrigger, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, killed_in: str,
) -> None:  # fmt: skip
    file, found = tmp_path / "checkpoint.pt", Evidence(triggers=[stamp])
    whole = REPAIR.repair(backdoored, plain.clean, found, seed=3)
    trained, steps, looks = tbar.train, list[int](), list[int]()
    real_step, real_look = Step.gradients, tbar.subtract
    monkeypatch.setattr(tbar, "train", lambda *a, **k: trained(*a, **k, checkpoint_every=4))

    def step(own: Step, *batch: Tensor) -> Tensor:
        steps.append(0)
        if killed_in == "training" and len(steps) == 11:
            raise KeyboardInterrupt
        return real_step(own, *batch)

    def look(*given: Any) -> CLIP:
        looks.append(0)
        if killed_in == "scales" and len(looks) == 2:
            raise KeyboardInterrupt
        return real_look(*given)

    monkeypatch.setattr(Step, "gradients", step)
    monkeypatch.setattr(tbar, "subtract", look)
    with pytest.raises(KeyboardInterrupt):
        REPAIR.repair(backdoored, plain.clean, found, seed=3, checkpoint=file)
    again = REPAIR.repair(backdoored, plain.clean, found, seed=3, checkpoint=file)
    assert len(steps) == {"training": 11 + 8, "scales": 16}[killed_in]
    assert again.evidence.findings == whole.evidence.findings
    assert again.evidence.curves == whole.evidence.curves
    wanted = state(whole.model)
    assert all(torch.equal(wanted[name], value) for name, value in state(again.model).items())
    assert not list(tmp_path.iterdir())


def _by_scale(found: Negated) -> tuple[list[float], list[float]]:
    agreement, success = (found.findings[name] for name in ("agreement", "trigger_success"))
    return cast("list[float]", agreement), cast("list[float]", success)


def _place(found: Negated) -> int:
    return [0, *NEGATE.scales].index(cast("float", found.findings["scale"]))


def test_both_stages_are_the_whole_repair(taught: Taught, plain: DataBundle, state: State) -> None:
    whole = REPAIR.purify(taught("resnet"), plain.clean, seed=3)
    found = REPAIR.search(taught("resnet"), plain.clean, seed=3)
    assert len(found.triggers) == 1
    parts = REPAIR.repair(taught("resnet"), plain.clean, found, seed=3)
    one, other = state(whole.model), state(parts.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    detected = DETECT.detect(taught("resnet"), plain.clean, seed=3)
    findings = whole.evidence.findings
    assert (findings["pl1"], findings["flagged"]) == (1 - detected.score, detected.flagged)
    assert findings["scale"] in [0, *NEGATE.scales]
    assert set(findings["trigger_targets"]) <= set(plain.class_names)  # type: ignore[arg-type]
    assert {"cosine", "task vector loss"} < set(whole.evidence.curves)
    assert {"inversion", "negate"} == set(whole.evidence.seconds)


def test_without_a_trigger_the_model_stays(taught: Taught, plain: DataBundle, state: State) -> None:
    model = taught("resnet")
    found = REPAIR.repair(model, plain.clean, Evidence(findings={"pl1": 1.0}), seed=0)
    assert found.steps == 0
    assert found.model is not model
    one, other = state(found.model), state(model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_its_work_is_known() -> None:
    found = REPAIR.work(7)
    assert (found["purify"].forward, found["purify"].trained) == (120, 96)
    assert found["search"] == DETECT.work(0)["detect"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scales": []}, "scales is a list of positive numbers, got"),
        ({"scales": [1, -1]}, "scales is a list of positive numbers, got"),
        ({"least_agreement": 2}, "least_agreement"),
        ({"samples": 3}, "task vector needs at least batch_size=6 pairs, got 3"),
        ({"recipe": replace(RECIPE, freeze_text=False)}, "recipe.freeze_text is true"),
        ({"recipe": replace(RECIPE, freeze_batch_norm=False)}, "recipe.freeze_batch_norm is true"),
        ({"recipe": None}, "recipe is a Recipe, got None"),
    ],
)
def test_wrong_values_are_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(NEGATE, **change)


def test_too_little_to_work_with_is_said(taught: Taught, plain: DataBundle) -> None:
    with pytest.raises(ValueError, match="a task vector needs at least one trigger"):
        NEGATE.negate(taught("resnet"), plain.clean, [], seed=0)
    with pytest.raises(ValueError, match="samples=999, but there are"):
        replace(NEGATE, samples=999).negate(
            taught("resnet"), plain.clean, [_nothing(plain)], seed=0
        )


def _nothing(plain: DataBundle) -> InvertedTrigger:
    empty = torch.zeros(3, plain.image_size, plain.image_size)
    return InvertedTrigger("mask", empty[:1], empty, empty)
