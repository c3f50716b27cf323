from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.finite import NonFiniteLossError
from invertune.losses import clip_loss
from invertune.seeds import seeded
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.training.train import epoch_order, train

Tiny = Callable[[str], CLIP]
RECIPE = Recipe(2, 8, 3e-3, (0.9, 0.98), 0.1, 0.1)


def _state(model: CLIP) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.clip.state_dict().items()}


def test_an_objective_replaces_the_contrastive_loss(tiny: Tiny, data: DataBundle) -> None:
    model, wanted = tiny("vit"), torch.eye(16)[0]
    before, seen = _state(model), []

    def objective(trained: CLIP, batch: Batch) -> Tensor:
        assert trained is model
        assert torch.equal(batch.images, data.pairs.batch(batch.index))
        assert len(batch.texts) == 0
        seen.append(batch.index)
        return -(trained.encode_image(batch.images) @ wanted).mean()

    recipe = replace(RECIPE, epochs=6)
    losses = train(model, data.pairs, recipe, seed=0, stage="test", objective=objective)
    assert len(losses) == len(seen) == 36
    assert torch.equal(seen[0], epoch_order(48, 8, seed=0, epoch=0)[0])
    assert torch.cat(seen[:6]).sort().values.tolist() == list(range(48))
    assert losses[-1] < losses[0] - 0.1
    with torch.no_grad():
        reached = model.encode_image(data.pairs.batch(torch.arange(48))) @ wanted
    assert -reached.mean() < losses[0] - 0.1
    # Nothing but the image tower was asked for.
    after = _state(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)


def test_the_contrastive_loss_as_an_objective_trains_alike(tiny: Tiny, data: DataBundle) -> None:
    def objective(model: CLIP, batch: Batch) -> Tensor:
        images, texts = model.encode_image(batch.images), model.encode_tokens(batch.tokens)
        return clip_loss(images, texts, model.logit_scale)

    own, given = tiny("vit"), tiny("vit")
    losses = train(own, data.pairs, RECIPE, seed=0, stage="test")
    assert train(given, data.pairs, RECIPE, seed=0, stage="test", objective=objective) == losses
    one, other = _state(own), _state(given)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_objective_encodes_further_texts_than_the_captions(tiny: Tiny, data: DataBundle) -> None:
    model, start = tiny("vit"), tiny("vit")
    reworded = [f"{caption} zebra" for caption in data.pairs.captions]
    seen: list[int] = []

    def objective(trained: CLIP, batch: Batch) -> Tensor:
        own = trained.encode_tokens(batch.tokens)
        others = trained.encode_tokens(batch.texts[batch.index])
        if not seen:  # before the first step the weights are the given ones
            index = batch.index.tolist()
            wanted = start.encode_text([reworded[i] for i in index])
            torch.testing.assert_close(others, wanted)
            torch.testing.assert_close(
                own, start.encode_text([data.pairs.captions[i] for i in index])
            )
        seen.append(len(batch.texts))
        return 1 - (own * others).sum(dim=-1).mean()

    losses = train(
        model, data.pairs, RECIPE, seed=0, stage="test", objective=objective, texts=reworded
    )
    assert set(seen) == {48}
    assert losses[-1] < losses[0]
    # The new word's embedding was trained too, and written back.
    word = int(model.tokenize(["zebra"])[0, 1])
    rows = (m.clip.token_embedding.weight[word] for m in (model, start))
    assert not torch.equal(*rows)


def test_an_objective_that_is_no_number_names_stage_and_step(tiny: Tiny, data: DataBundle) -> None:
    steps = iter([1.0, 1.0, float("nan")])

    def objective(model: CLIP, batch: Batch) -> Tensor:
        return next(steps) * model.encode_image(batch.images).sum()

    with pytest.raises(NonFiniteLossError, match="test: the loss is nan at step 2"):
        train(tiny("vit"), data.pairs, RECIPE, seed=0, stage="test", objective=objective)


def test_what_an_objective_draws_by_the_step_is_drawn_again_after_a_kill(
    tiny: Tiny, data: DataBundle, tmp_path: Path
) -> None:
    seen: list[int] = []

    def noisy(model: CLIP, batch: Batch, last: int = 99) -> Tensor:
        if batch.step == last:
            raise KeyboardInterrupt
        seen.append(batch.step)
        noise = torch.rand(batch.images.shape, generator=seeded(0, "noise", batch.step))
        return model.encode_image((batch.images + noise).clamp(0, 1))[:, 0].mean()

    whole, again, path = tiny("vit"), tiny("vit"), tmp_path / "checkpoint.pt"
    losses = train(whole, data.pairs, RECIPE, seed=0, stage="test", objective=noisy)
    assert seen == list(range(12))
    killed = functools.partial(noisy, last=8)
    with pytest.raises(KeyboardInterrupt):
        train(again, data.pairs, RECIPE, seed=0, stage="test", objective=killed,
              checkpoint=path, checkpoint_every=5)  # fmt: skip
    seen.clear()
    other = tiny("vit")
    found = train(other, data.pairs, RECIPE, seed=0, stage="test", objective=noisy,
                  checkpoint=path)  # fmt: skip
    assert seen == list(range(5, 12))
    assert found == losses
    one, two = _state(whole), _state(other)
    assert all(torch.equal(one[name], two[name]) for name in one)
