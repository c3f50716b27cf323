from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.baselines import pairs
from invertune.baselines.par import PAR, NoiseAndErasing, par_loss, repulsion, squared_distance
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.losses import clip_loss
from invertune.training.norms import batch_norms
from invertune.training.recipe import Recipe
from invertune.training.step import Step

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
AUGMENT = NoiseAndErasing(0.5, 0.2, 0.5, (0.005, 0.01))
COLOR = torch.tensor([0.2, 0.4, 0.6])
RECIPE = Recipe(
    4, 6, 1e-3, (0.9, 0.98), 1e-4, 0.5, freeze_batch_norm=True, train_batch_norm_factors=True,
    warmup_from=10.0, cosine_to=1 / 3000,
)  # fmt: skip
DEFENSE = PAR("par", 12, 2.15, 0.5, AUGMENT, RECIPE)


@pytest.fixture
def clean(plain: DataBundle) -> CleanData:
    return plain.captioned_clean


def _at(*degrees: float) -> Tensor:
    """Return unit vectors of the plane, (B, 2)."""
    turns = torch.tensor(degrees).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def test_the_distance_is_2_at_a_right_angle_and_a_mean_over_the_batch() -> None:
    assert squared_distance(_at(0, 20), _at(90, 110)).item() == pytest.approx(2)
    assert squared_distance(_at(0, 0), _at(60, 180)).item() == pytest.approx((1 + 4) / 2)


def test_beyond_the_threshold_nothing_pulls() -> None:
    suspect = _at(0, 0)
    # 2 - 2 cos: 1 and 3, of mean 2; 3 and 3.
    for degrees, value in (((60.0, 120.0), 2.0), ((120.0, -120.0), 0.0)):
        features = _at(*degrees).requires_grad_()
        found = repulsion(features, suspect, threshold=2.15)
        assert found.item() == pytest.approx(value)
        found.backward()  # type: ignore[no-untyped-call]
        assert features.grad is not None
        assert bool(features.grad.any()) == (value > 0)


def test_the_loss_is_what_the_formula_gives() -> None:
    images, texts, scale = _at(0, 90), _at(0, 60), 2.0
    # Cosines of images (rows) to texts: 1, 1/2; 0, sqrt(3)/2. Both ways, the diagonal wins.
    root = math.sqrt(3) / 2
    logits = [[scale * 1, scale * 0.5], [0.0, scale * root]]
    terms = [
        math.log(sum(math.exp(x) for x in line)) - line[i]
        for rows in (logits, [list(column) for column in zip(*logits, strict=True)])
        for i, line in enumerate(rows)
    ]
    contrast = sum(terms) / 4
    # Images have moved by 60 and 90 degrees: (1 + 2) / 2; texts by 180: 4, which is too far.
    found = par_loss(
        images, texts, _at(60, 0), _at(180, 240), torch.tensor(scale).log(), threshold=2.15,
        weight=0.5,
    )  # fmt: skip
    assert found.item() == pytest.approx(contrast - 0.5 * (1.5 + 0))


def test_noise_brightens_the_share_of_images_that_get_it() -> None:
    images = torch.full((400, 3, 16, 16), 0.3)
    augment = replace(AUGMENT, erase_share=0.0)
    change = augment(images, torch.Generator().manual_seed(0), COLOR) - images
    moved = change.flatten(1).any(dim=1)
    assert 0.42 < moved.float().mean() < 0.58
    assert change.min() == 0
    # Half of a Gaussian: its mean is sigma / sqrt(2 pi); 0.7 above, hardly anything is cut off.
    assert change[moved].mean().item() == pytest.approx(0.2 / math.sqrt(2 * math.pi), rel=0.02)
    bright = augment(torch.ones(8, 3, 16, 16), torch.Generator().manual_seed(0), COLOR)
    assert bright.eq(1).all()


@pytest.mark.parametrize(("side", "sizes"), [(64, {5, 6}), (224, set(range(16, 23)))])
def test_squares_have_the_color_and_the_area(side: int, sizes: set[int]) -> None:
    images, count = torch.full((300, 3, side, side), 0.3), 0
    found = replace(AUGMENT, noise_share=0.0)(images, torch.Generator().manual_seed(1), COLOR)
    seen = set()
    for image in found:
        erased = image.ne(0.3).any(dim=0)
        if not erased.any():
            continue
        rows, columns = erased.any(dim=1).nonzero().flatten(), erased.any(dim=0).nonzero().flatten()
        size = len(rows)
        # All of a box as high as wide, and nothing else.
        assert len(columns) == size == rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1
        assert erased.sum() == size**2
        assert torch.equal(image[:, erased], COLOR.view(3, 1).expand(3, size**2))
        seen.add(size)
        count += 1
    assert seen == sizes
    assert 120 < count < 180


def test_the_generator_alone_decides_and_images_stay() -> None:
    images = torch.rand(6, 3, 32, 32)
    before = images.clone()
    first = AUGMENT(images, torch.Generator().manual_seed(3), COLOR)
    torch.rand(5)
    assert torch.equal(AUGMENT(images, torch.Generator().manual_seed(3), COLOR), first)
    assert not torch.equal(AUGMENT(images, torch.Generator().manual_seed(4), COLOR), first)
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_it_leaves_temperature_and_statistics(
    taught: Taught, state: State, clean: CleanData, kind: str
) -> None:
    model = taught(kind)
    before = state(model)
    purified = DEFENSE.purify(model, clean, seed=0)
    after = state(purified.model)
    assert torch.equal(after["clip.logit_scale"], before["clip.logit_scale"])
    kept = [name for name in before if "running_" in name or "num_batches" in name]
    assert bool(kept) == (kind == "resnet")
    assert all(torch.equal(before[name], after[name]) for name in kept)
    factors = {id(p) for norm in batch_norms(purified.model) for p in norm.parameters()}
    moved = {id(p) for name, p in purified.model.named_parameters()
             if not torch.equal(p, before[name])}  # fmt: skip
    assert factors <= moved
    assert purified.steps == len(purified.evidence.curves["purify loss"]) == 4 * 12 // 6


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_its_weight_is_what_drives_both_towers_away(
    taught: Taught, clean: CleanData, kind: str
) -> None:
    near, far = (
        replace(DEFENSE, weight=weight).purify(taught(kind), clean, seed=0).evidence.findings
        for weight in (0.0, 5.0)
    )
    for name in ("image_distance", "text_distance"):
        before, after = near[name], far[name]
        assert isinstance(before, float)
        assert isinstance(after, float)
        assert 4 > after > 1.2 * before > 0


def test_its_loss_is_that_of_the_models_own_features(
    taught_in_float32: Taught, clean: CleanData
) -> None:
    model, still = taught_in_float32("resnet"), NoiseAndErasing(0, 0.0, 0, (0.005, 0.01))
    one_batch = replace(RECIPE, epochs=1, batch_size=12)
    found = replace(DEFENSE, augment=still, recipe=one_batch).purify(model, clean, seed=0)
    # At the start both models are one: the distances are 0, the contrastive loss is left.
    with torch.no_grad():
        images = model.encode_image(clean.pairs.batch(torch.arange(12)))
        wanted = clip_loss(images, model.encode_text(clean.pairs.captions), model.logit_scale)
    assert found.evidence.curves["purify loss"] == pytest.approx([wanted.item()], abs=1e-4)


def test_a_killed_repair_goes_on(
    taught: Taught, state: State, clean: CleanData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = taught("resnet"), tmp_path / "checkpoint.pt"
    whole = DEFENSE.purify(model, clean, seed=3)
    trained, real = pairs.train, Step.gradients
    monkeypatch.setattr(pairs, "train", lambda *a, **k: trained(*a, **k, checkpoint_every=2))
    calls = []

    def killed(step: Step, *batch: Tensor) -> Tensor:
        calls.append(batch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(step, *batch)

    monkeypatch.setattr(Step, "gradients", killed)
    with pytest.raises(KeyboardInterrupt):
        DEFENSE.purify(model, clean, seed=3, checkpoint=file)
    assert file.exists()
    again = DEFENSE.purify(model, clean, seed=3, checkpoint=file)
    assert len(calls) == 6 + 4
    assert again.evidence.curves == whole.evidence.curves
    wanted = state(whole.model)
    assert all(torch.equal(wanted[name], value) for name, value in state(again.model).items())


def test_it_is_as_long_as_it_says(
    taught: Taught, clean: CleanData, counted: dict[str, int]
) -> None:
    defense = replace(DEFENSE, clean_samples=11)  # the last five are dropped
    model = taught("vit")  # taught before anything counts
    before = dict(counted)
    defense.purify(model, clean, seed=0)
    seen = {name: count - before[name] for name, count in counted.items()}
    said = defense.work(6)["purify"]
    assert (said.trained, said.texts_trained) == (4 * 6, 4 * 6)
    assert (seen["trained"], seen["texts_trained"]) == (said.trained, said.texts_trained)
    assert (seen["forward"], seen["back"]) == (said.forward, said.back) == (4 * 6 + 2 * 11, 0)
    assert 0 < seen["texts"] <= said.texts == 2 * 11  # equal captions once


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clean_samples": 0}, "clean_samples is an integer of at least 1, got 0"),
        ({"threshold": -1}, "threshold is a number of at least 0, got -1"),
        ({"augment": None}, "augment is a NoiseAndErasing, got None"),
        ({"recipe": 3}, "recipe is a Recipe, got 3"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(DEFENSE, **change)


def test_wrong_augmentations_are_named() -> None:
    with pytest.raises(ValueError, match=r"noise_share is a share in \[0, 1\], got 2"):
        replace(AUGMENT, noise_share=2)
    areas: list[Any] = [(0.01, 0.005), (0.0, 0.1), (0.1,), 0.1, ["a", "b"], None]
    for area in areas:
        with pytest.raises(ValueError, match=r"area is two growing shares in \(0, 1\), got"):
            replace(AUGMENT, area=area)


def test_fewer_images_than_it_needs(taught: Taught, clean: CleanData) -> None:
    with pytest.raises(ValueError, match="clean_samples=13, but there are 12 clean pairs"):
        replace(DEFENSE, clean_samples=13).purify(taught("vit"), clean, seed=0)
