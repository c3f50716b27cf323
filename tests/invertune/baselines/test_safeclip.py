from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from invertune.baselines import safeclip
from invertune.baselines.crop_and_color import CropAndColor
from invertune.baselines.eda import EDA
from invertune.baselines.safe_pairs import Division
from invertune.baselines.safeclip import SafeCLIP, SafeTraining, unimodal_loss
from invertune.baselines.suspects import Views
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.training.objective import Batch, Pass
from invertune.training.recipe import Recipe
from invertune.training.train import train

Tiny = Callable[[str], CLIP]
AUGMENT = CropAndColor(
    crop=(0.5, 1.0), jitter=(0.2, 0.2, 0.2, 0.1), jittered=0.8, gray=0.2, blur=(1e-3, 1e-2)
)
RECIPE = Recipe(4, 8, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=3e-3)
DEFENSE = SafeCLIP(
    name="safeclip", recipe=RECIPE, in_modal_epochs=1, slow_epochs=1, slow_rate=0.01, bank=16,
    compare_views=True, posterior=0.9, growth=0.1, most=0.85, augment_images=AUGMENT,
    augment_texts=EDA(0.1, 0.1),
)  # fmt: skip


@pytest.fixture
def clean(plain: DataBundle, tiny: Tiny) -> CleanData:
    """Return 24 suspect pairs, three batches of eight, and the model to start from."""
    suspects = plain.pairs.take(torch.arange(24))
    return replace(plain.clean, suspects=suspects, origin=tiny("resnet"))


@pytest.fixture
def training(clean: CleanData) -> SafeTraining:
    assert clean.suspects is not None
    return SafeTraining(clean.suspects, DEFENSE, Views(AUGMENT, 0))


def test_each_modality_finds_its_neighbors_by_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    four = [torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=1)
            for _ in range(4)]  # fmt: skip
    found = unimodal_loss(*four, torch.tensor(2.0))
    images, near_images, texts, near_texts = (one.double().numpy() for one in four)
    losses = []
    for own, near in ((images, near_images), (texts, near_texts)):
        shares = np.exp(np.exp(2.0) * own @ near.T)
        losses.append(-np.log(np.diag(shares) / shares.sum(axis=1)).mean())
    assert float(found) == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_phases_follow_each_other(training: SafeTraining) -> None:
    safe = torch.zeros(24, dtype=torch.bool)
    safe[8:] = True
    training.division = Division(2, safe)

    def across(step: int, first: int) -> bool:
        index = torch.arange(first, first + 8)
        return training.across(Batch(safe, safe, index, safe, index, step))

    assert [across(step, 8) for step in range(3)] == 3 * [False]  # all in-modal
    assert [across(step, 0) for step in range(3, 6)] == 3 * [True]  # all across
    assert [across(step, first) for step, first in ((6, 0), (7, 8), (8, 16))] == [False, True, True]
    rates = [training.rate(step, 0.5) for step in range(9)]
    assert rates == 3 * [0.5] + 3 * [0.01] + 3 * [0.5]


def test_pairs_are_told_apart_once_an_epoch(
    training: SafeTraining, clean: CleanData, tiny: Tiny
) -> None:
    assert clean.suspects is not None
    model = tiny("resnet")
    tokens, order = model.tokenize(clean.suspects.captions), torch.arange(24).view(3, 8)
    for number in (0, 1):
        assert training.order(model, Pass(number, order, tokens, tokens)) is order
    assert training.division.epoch == -1
    first = training.order(model, Pass(2, order, tokens, tokens))
    division = training.division
    assert (division.epoch, len(division.shares)) == (2, 1)
    assert torch.equal(training.order(model, Pass(2, order, tokens, tokens)), first)
    assert training.division is division
    training.order(model, Pass(3, order, tokens, tokens))
    assert len(training.division.shares) == 2


def test_the_origin_is_trained_and_the_suspect_is_no_matter(clean: CleanData, tiny: Tiny) -> None:
    assert clean.origin is not None
    before = {name: value.clone() for name, value in clean.origin.state_dict().items()}
    one, other = (DEFENSE.purify(tiny(kind), clean, seed=0) for kind in ("resnet", "vit"))
    assert one.steps == len(one.evidence.curves["purify loss"]) == 12
    weights, again = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    after = clean.origin.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(weights["clip.visual.conv1.weight"], before["clip.visual.conv1.weight"])
    found = one.evidence.findings
    shares, risky = found["safe_share"], found["risky"]
    assert isinstance(shares, list)
    assert isinstance(risky, list)
    assert len(shares) == 2  # epochs that were divided
    assert len(risky) == 24 - round(24 * shares[-1])


def test_images_are_compared_as_they_are_or_augmented(
    clean: CleanData, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clean.suspects is not None
    model, pairs, images = tiny("resnet"), clean.suspects, torch.rand(4, 3, 32, 32)
    tokens, order = model.tokenize(pairs.captions), torch.arange(24).view(3, 8)
    changed: list[bool] = []

    def compared(*given: Any) -> Tensor:
        changed.append(not torch.equal(given[-1](images), images))
        return torch.linspace(0, 1, 24)

    monkeypatch.setattr(safeclip, "pair_similarities", compared)
    for views in (True, False):
        defense = replace(DEFENSE, compare_views=views)
        SafeTraining(pairs, defense, Views(AUGMENT, 0)).order(model, Pass(2, order, tokens, tokens))
    assert changed == [True, False]


@pytest.mark.parametrize("left", [2, 7, 10])  # before the kill: in-modal, divided, divided again
def test_a_training_that_is_killed_goes_on_with_banks_and_division(
    clean: CleanData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    assert clean.origin is not None
    model, file = clean.origin, tmp_path / "checkpoint.pt"
    wanted = DEFENSE.purify(model, clean, seed=0)

    class Killed(SafeTraining):
        def __call__(self, model: CLIP, batch: Batch) -> Tensor:
            if batch.step == left:
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    with monkeypatch.context() as patched:
        patched.setitem(train.__kwdefaults__, "checkpoint_every", 1)
        patched.setattr(safeclip, "SafeTraining", Killed)
        with pytest.raises(KeyboardInterrupt):
            DEFENSE.purify(model, clean, seed=0, checkpoint=file)
    assert file.exists()
    found = DEFENSE.purify(model, clean, seed=0, checkpoint=file)
    one, other = wanted.model.state_dict(), found.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert found.evidence.curves == wanted.evidence.curves
    assert found.evidence.findings == wanted.evidence.findings


def test_an_epoch_is_left_for_the_division() -> None:
    for epochs in (1, 2):
        with pytest.raises(ValueError, match=r"recipe.epochs is above .* 2: .*, got"):
            replace(DEFENSE, recipe=replace(RECIPE, epochs=epochs))
    with pytest.raises(ValueError, match=r"slow_rate is a share in \(0, 1\], got 0"):
        replace(DEFENSE, slow_rate=0)
