from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.baselines.abd import ABD, backdoor_loss
from invertune.baselines.eda import EDA
from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float
from invertune.perturb import Augmentation, InvertedTrigger, PatchTraining
from invertune.seeds import seeded
from invertune.training.recipe import Recipe
from invertune.training.step import Step

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
PATCH = PatchTraining(
    share=0.25, corner=0.25, channels=8, alpha=10.0, beta=5.0, gamma=5.0, delta=1.0,
    temperature=0.1, lr=5e-3, betas=(0.5, 0.999), batch_size=8, steps=3, clip=0.01,
)  # fmt: skip
DEFENSE = ABD(
    "abd", 12, PATCH, 10.0, Augmentation(), EDA(0.3, 0.3),
    Recipe(4, 6, 1e-3, (0.9, 0.999), 0.1, 0.1),
)  # fmt: skip


@pytest.fixture
def origin(taught: Taught) -> CLIP:
    return taught("resnet")


@pytest.fixture
def suspect(taught: Taught) -> CLIP:
    """Return a model that has moved away from the original one."""
    model, generator = taught("resnet"), seeded(0, "moved")
    with torch.no_grad():
        for weight in model.visual.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.2 * weight.std(correction=0) * noise)
    return model


@pytest.fixture
def clean(plain: DataBundle, origin: CLIP) -> CleanData:
    return replace(plain.captioned_clean, origin=origin)


def test_the_backdoor_loss_is_the_mean_cosine() -> None:
    turns = torch.tensor([[0.0, 60.0], [30.0, 120.0], [10.0, 190.0]]).deg2rad()
    first, second = (torch.stack([one.cos(), one.sin()], dim=1) for one in turns.T)
    assert backdoor_loss(first, second).item() == pytest.approx((0.5 + 0 - 1) / 3, abs=1e-6)


def test_a_patch_with_it_is_what_the_two_models_see_differently(
    suspect: CLIP, origin: CLIP, clean: CleanData
) -> None:
    images = to_float(clean.images[:])

    def alike(weight: float) -> float:
        # Without L_adv and L_topo, which drive the suspect model's features anywhere.
        patch = replace(PATCH, steps=40, alpha=0.0, delta=0.0)
        defense = replace(DEFENSE, backdoor_weight=weight, patch=patch)
        found, losses = defense.make(suspect, origin, clean.pairs, seed=0)
        assert len(losses) == 40
        return backdoor_loss(
            *(encode_images(model, found(images)) for model in (suspect, origin))
        ).item()

    assert alike(100.0) < alike(0.0) - 0.02


def test_every_image_wears_the_patch_and_captions_are_reworded(clean: CleanData) -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, 4:9, 6:11] = 1
    patch = InvertedTrigger("mine", mask, torch.full((3, 32, 32), 0.5), torch.zeros(3, 32, 32))
    pairs = clean.pairs
    worn = DEFENSE.worn(pairs, patch, seed=0)
    assert worn.ids == pairs.ids
    images, before = worn.images[torch.arange(12)], pairs.images[torch.arange(12)]
    assert images.dtype == torch.uint8
    assert images[:, :, 4:9, 6:11].eq(128).all()
    images[:, :, 4:9, 6:11] = before[:, :, 4:9, 6:11]
    assert torch.equal(images, before)
    words = [(set(new.split()), set(old.split())) for new, old in
             zip(worn.captions, pairs.captions, strict=True)]  # fmt: skip
    assert all(new <= old for new, old in words)
    assert any(new < old for new, old in words)
    assert DEFENSE.worn(pairs, patch, seed=0).captions == worn.captions
    assert DEFENSE.worn(pairs, patch, seed=1).captions != worn.captions


def test_it_says_what_it_found_and_leaves_both_models(
    suspect: CLIP, clean: CleanData, state: State
) -> None:
    assert clean.origin is not None
    before = [state(model) for model in (suspect, clean.origin)]
    found = DEFENSE.purify(suspect, clean, seed=0)
    for model, kept in zip((suspect, clean.origin), before, strict=True):
        assert all(torch.equal(kept[name], value) for name, value in state(model).items())
        assert all(weight.requires_grad for weight in model.parameters())
    evidence = found.evidence
    assert found.steps == len(evidence.curves["purify loss"]) == 4 * 12 // 6
    assert len(evidence.curves["patch loss"]) == 3
    assert set(evidence.seconds) == {"patch", "purify"}
    (patch,) = evidence.triggers
    gap, images = evidence.findings["cosine_to_origin"], to_float(clean.pairs.images[:])
    assert isinstance(gap, dict)
    for name, shown in (("clean", images), ("patched", patch(images))):
        features = (encode_images(model, shown) for model in (suspect, clean.origin))
        assert gap[name] == pytest.approx(backdoor_loss(*features).item(), abs=1e-3)


def test_an_original_model_that_is_the_same_shows_no_gap(clean: CleanData, origin: CLIP) -> None:
    gap = DEFENSE.purify(origin, clean, seed=0).evidence.findings["cosine_to_origin"]
    assert gap == pytest.approx({"clean": 1, "patched": 1}, abs=1e-4)


def test_it_needs_the_original_model(suspect: CLIP, plain: DataBundle) -> None:
    with pytest.raises(ValueError, match="abd needs the original model, got none"):
        DEFENSE.purify(suspect, plain.captioned_clean, seed=0)


def test_a_killed_repair_keeps_its_patch(
    suspect: CLIP, clean: CleanData, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checkpoint.pt"
    whole = DEFENSE.purify(suspect, clean, seed=3)

    def killed(*_: Any) -> Tensor:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Step, "gradients", killed)
        with pytest.raises(KeyboardInterrupt):
            DEFENSE.purify(suspect, clean, seed=3, checkpoint=file)
    assert [path.name for path in tmp_path.iterdir()] == ["patch-checkpoint.pt"]
    monkeypatch.setattr(PatchTraining, "draw", killed)
    again = DEFENSE.purify(suspect, clean, seed=3, checkpoint=file)
    assert list(tmp_path.iterdir()) == []
    assert again.evidence.curves == whole.evidence.curves
    wanted = state(whole.model)
    assert all(torch.equal(wanted[name], value) for name, value in state(again.model).items())


def test_it_is_as_long_as_it_says(suspect: CLIP, clean: CleanData, counted: dict[str, int]) -> None:
    defense = replace(DEFENSE, clean_samples=11)  # the last five are dropped
    before = dict(counted)
    defense.purify(suspect, clean, seed=0)
    seen = {name: count - before[name] for name, count in counted.items()}
    said = defense.work(6)["purify"]
    assert (said.trained, said.texts_trained) == (4 * 6, 4 * 6)
    assert (seen["trained"], seen["texts_trained"]) == (said.trained, said.texts_trained)
    assert (seen["forward"], seen["back"]) == (said.forward, said.back) == (3 * 8 + 44, 2 * 24)
    assert 0 < seen["texts"] <= said.texts == 11  # equal captions once


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clean_samples": 1.5}, "clean_samples is an integer, got 1.5"),
        ({"backdoor_weight": -1}, "backdoor_weight is a number of at least 0, got -1"),
        ({"patch": None}, "patch is a PatchTraining, got None"),
        ({"augment": 1}, "augment is a Augmentation, got 1"),
        ({"augment_texts": None}, "augment_texts is a EDA, got None"),
        ({"recipe": 3}, "recipe is a Recipe, got 3"),
        (
            {"patch": replace(PATCH, batch_size=13)},
            "the patch of abd needs at least batch_size=13 images, got 12",
        ),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(DEFENSE, **change)
