from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from invertune.baselines.pairs import chosen_pairs, repaired
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.seeds import seeded
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(2, 4, 1e-3, (0.9, 0.999), 0.1, 0.1)


def test_few_pairs_are_among_many_and_have_their_captions(plain: DataBundle) -> None:
    clean = plain.captioned_clean
    few, many = (chosen_pairs(clean, count, seed=3) for count in (4, 9))
    assert list(few.ids) == list(many.ids)[:4]
    assert list(few.ids) != list(chosen_pairs(clean, 4, seed=4).ids)
    places = torch.randperm(12, generator=seeded(3, "clean"))[:4]  # as InverTune takes its images
    assert torch.equal(few.images[:], clean.images[places])
    assert clean.captions is not None
    assert few.captions == [clean.captions[i] for i in places.tolist()]


def test_what_is_not_there_is_said(plain: DataBundle) -> None:
    with pytest.raises(ValueError, match="clean_samples=13, but there are 12 clean pairs"):
        chosen_pairs(plain.captioned_clean, 13, seed=0)
    with pytest.raises(ValueError, match="captions are given to a defense with needs=pairs only"):
        chosen_pairs(plain.clean, 3, seed=0)


def test_a_repair_leaves_the_model_and_says_its_steps(
    taught: Taught, plain: DataBundle, state: State
) -> None:
    model, seen = taught("resnet"), list[int]()
    before = state(model)
    pairs = chosen_pairs(plain.captioned_clean, 12, seed=0)

    def objective(trained: CLIP, batch: Batch) -> Tensor:
        seen.append(len(batch.texts))
        return -trained.encode_image(batch.images)[:, 0].mean()

    found = repaired(
        model, pairs, RECIPE, seed=0, checkpoint=None, objective=objective, texts=["one", "two"]
    )
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found.steps == len(seen) == len(found.evidence.curves["purify loss"]) == 6
    assert set(seen) == {2}
    assert found.evidence.seconds.keys() == {"purify"}
    images = plain.clean.images[:].float() / 255
    with torch.no_grad():
        one, other = (m.encode_image(images)[:, 0].mean() for m in (found.model, model))
    assert one > other + 0.01


def test_a_killed_repair_goes_on(
    taught: Taught, plain: DataBundle, state: State, tmp_path: Path
) -> None:
    pairs, file = chosen_pairs(plain.captioned_clean, 12, seed=0), tmp_path / "checkpoint.pt"
    recipe = Recipe(70, 4, 1e-4, (0.9, 0.999), 0.1, 0.1)  # 210 steps: one checkpoint
    steps = iter(range(205))

    def killed(model: CLIP, batch: Batch) -> Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return whole(model, batch)

    def whole(model: CLIP, batch: Batch) -> Tensor:
        return model.encode_image(batch.images)[:, 0].mean()

    undisturbed = repaired(taught("vit"), pairs, recipe, seed=0, checkpoint=None, objective=whole)
    with pytest.raises(KeyboardInterrupt):
        repaired(taught("vit"), pairs, recipe, seed=0, checkpoint=file, objective=killed)
    assert file.is_file()
    found = repaired(taught("vit"), pairs, recipe, seed=0, checkpoint=file, objective=whole)
    assert found.steps == 210
    one, other = state(undisturbed.model), state(found.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
