from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.baselines import roclip
from invertune.baselines.crop_and_color import CropAndColor
from invertune.baselines.eda import EDA
from invertune.baselines.pool import Pool
from invertune.baselines.roclip import Matching, RoCLIP
from invertune.baselines.suspects import Views
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.training.train import train

Tiny = Callable[[str], CLIP]
AUGMENT = CropAndColor(
    crop=(0.5, 1.0), jitter=(0.2, 0.2, 0.2, 0.1), jittered=0.8, gray=0.2, blur=(1e-3, 1e-2)
)
DEFENSE = RoCLIP(
    name="roclip", recipe=Recipe(4, 8, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=3e-3), pool=16, every=2,
    augment_images=AUGMENT, augment_texts=EDA(0.1, 0.1),
)  # fmt: skip


@pytest.fixture
def clean(plain: DataBundle, tiny: Tiny) -> CleanData:
    """Return 24 suspect pairs, three batches of eight, and the model to start from."""
    suspects = plain.pairs.take(torch.arange(24))
    return replace(plain.clean, suspects=suspects, origin=tiny("resnet"))


def test_every_second_epoch_is_matched() -> None:
    goal = Matching(Pool(4), 2, 3, Views(AUGMENT, 0))
    assert [goal.matched(step) for step in range(12)] == 2 * (3 * [False] + 3 * [True])
    goal = Matching(Pool(4), 3, 1, Views(AUGMENT, 0))
    assert [goal.matched(step) for step in range(6)] == [False, False, True] * 2


class Fixed:
    """A model whose features are given."""

    logit_scale = torch.tensor(0.0)

    def __init__(self) -> None:
        self.image = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
        self.text = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)

    def encode_image(self, images: Tensor) -> Tensor:
        return self.image * 1

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        return self.text * 1


def _loss(goal: Matching, model: Any, step: int) -> Tensor:
    images, index = torch.rand(2, 3, 8, 8), torch.arange(2)
    return goal(model, Batch(images, torch.zeros(2, 4), index, torch.zeros(0, 4), index, step))


def test_the_loss_by_hand() -> None:
    goal, model = Matching(Pool(2), 2, 1, Views(AUGMENT, 0)), Fixed()
    # Own captions: similarities [[0, 1], [0.8, 0.6]].
    own = _loss(goal, model, 0)
    rows = (torch.tensor([1.0, 0.2]).exp() + 1).log()  # by image: log(1 + exp(other - own))
    columns = (torch.tensor([0.8, 0.4]).exp() + 1).log()  # by caption
    torch.testing.assert_close(own, (rows.mean() + columns.mean()) / 2)
    own.backward()
    assert model.text.grad is not None
    model.text.grad = None
    # The nearest of the pool, which is the same two captions: [[1, 0], [0.6, 0.8]].
    matched = _loss(goal, model, 1)
    rows = (torch.tensor([-1.0, -0.2]).exp() + 1).log()
    columns = (torch.tensor([-0.4, -0.8]).exp() + 1).log()
    torch.testing.assert_close(matched, (rows.mean() + columns.mean()) / 2)
    matched.backward()
    assert model.text.grad is None
    assert model.image.grad is not None


def test_the_origin_is_trained_and_the_suspect_is_no_matter(clean: CleanData, tiny: Tiny) -> None:
    assert clean.origin is not None
    before = {name: value.clone() for name, value in clean.origin.state_dict().items()}
    one = DEFENSE.purify(tiny("resnet"), clean, seed=0)
    other = DEFENSE.purify(tiny("vit"), clean, seed=0)
    assert one.steps == len(one.evidence.curves["purify loss"]) == 12
    weights, again = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    after = clean.origin.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(weights["clip.visual.conv1.weight"], before["clip.visual.conv1.weight"])


def test_the_text_tower_rests_where_images_are_matched(clean: CleanData, tiny: Tiny) -> None:
    always = replace(DEFENSE, every=1).purify(tiny("resnet"), clean, seed=0)
    assert clean.origin is not None
    before, after = clean.origin.state_dict(), always.model.state_dict()
    text = [name for name in before if ".transformer." in name and "visual" not in name]
    assert text
    assert all(torch.equal(before[name], after[name]) for name in text)


@pytest.mark.parametrize("left", [4, 10])  # steps before the kill; the pool is used from 4 on
def test_a_training_that_is_killed_goes_on_with_its_pool(
    clean: CleanData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    assert clean.origin is not None
    model, file = clean.origin, tmp_path / "checkpoint.pt"
    wanted = DEFENSE.purify(model, clean, seed=0)

    class Killed(Matching):
        def __call__(self, model: CLIP, batch: Batch) -> Tensor:
            if batch.step == left:
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    with monkeypatch.context() as patched:
        patched.setitem(train.__kwdefaults__, "checkpoint_every", 2)
        patched.setattr(roclip, "Matching", Killed)
        with pytest.raises(KeyboardInterrupt):
            DEFENSE.purify(model, clean, seed=0, checkpoint=file)
    assert file.exists()
    found = DEFENSE.purify(model, clean, seed=0, checkpoint=file)
    one, other = wanted.model.state_dict(), found.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert found.evidence.curves == wanted.evidence.curves
