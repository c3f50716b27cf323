from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP, MAX_LOGIT_SCALE
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle
from invertune.finite import NonFiniteLossError, check_finite
from invertune.losses import clip_loss
from invertune.training.objective import Batch
from invertune.training.recipe import Recipe
from invertune.training.train import batch_norms, compact_vocabulary, train

Tiny = Callable[[str], CLIP]
RECIPE = Recipe(2, 8, 3e-3, (0.9, 0.98), 0.1, 0.1)
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def _state(model: CLIP) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.clip.state_dict().items()}


@both
@pytest.mark.parametrize("muon_lr", [None, 3e-3])
def test_the_loss_falls(tiny: Tiny, data: DataBundle, kind: str, muon_lr: float | None) -> None:
    recipe = replace(RECIPE, epochs=5, muon_lr=muon_lr)
    model = tiny(kind)
    losses = train(model, data.pairs, recipe, seed=0, stage="test")
    assert len(losses) == 5 * 48 // 8
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert 0 <= model.logit_scale.item() <= MAX_LOGIT_SCALE


def test_the_seed_decides_the_order(tiny: Tiny, data: DataBundle) -> None:
    first = train(tiny("vit"), data.pairs, RECIPE, seed=0, stage="test")
    torch.rand(10)
    assert train(tiny("vit"), data.pairs, RECIPE, seed=0, stage="test") == first
    assert train(tiny("vit"), data.pairs, RECIPE, seed=1, stage="test") != first


def test_fewer_pairs_than_a_batch_are_an_error(tiny: Tiny, data: DataBundle) -> None:
    few = data.pairs.take(torch.arange(4))
    with pytest.raises(ValueError, match="test needs at least batch_size=8 pairs, got 4"):
        train(tiny("vit"), few, RECIPE, seed=0, stage="test")


@pytest.mark.parametrize("muon_lr", [None, 3e-3])
def test_a_training_that_is_killed_ends_like_an_undisturbed_one(
    tiny: Tiny, data: DataBundle, tmp_path: Path, muon_lr: float | None
) -> None:
    recipe, path = replace(RECIPE, muon_lr=muon_lr), tmp_path / "checkpoint.pt"
    straight = tiny("resnet")
    wanted = train(straight, data.pairs, recipe, seed=0, stage="test")
    steps = iter(range(7))

    def killed(model: CLIP, batch: Batch) -> Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return goal(model, batch)

    def goal(model: CLIP, batch: Batch) -> Tensor:
        texts = model.encode_tokens(batch.tokens)
        return clip_loss(model.encode_image(batch.images), texts, model.logit_scale)

    with pytest.raises(KeyboardInterrupt):
        train(tiny("resnet"), data.pairs, recipe, seed=0, stage="test", objective=killed,
              checkpoint=path, checkpoint_every=3)  # fmt: skip
    assert path.exists()
    again = tiny("resnet")
    losses = train(again, data.pairs, recipe, seed=0, stage="test", checkpoint=path)
    assert losses == wanted
    assert not path.exists()
    one, other = _state(straight), _state(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_part_of_an_epoch(tiny: Tiny, data: DataBundle) -> None:
    recipe = replace(RECIPE, epochs=0.5)
    assert len(train(tiny("vit"), data.pairs, recipe, seed=0, stage="test")) == 3


def test_a_compact_table_gives_the_same_features(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    tokens = model.tokenize(data.pairs.captions)
    table = model.clip.token_embedding
    with torch.no_grad():
        full = model.encode_tokens(tokens)
        with compact_vocabulary(model, tokens) as numbers:
            assert numbers.shape == tokens.shape
            assert len(model.clip.token_embedding.weight) == len(tokens.unique()) < 200
            assert torch.equal(model.encode_tokens(numbers), full)
    assert model.clip.token_embedding is table


def test_only_used_rows_of_the_table_change(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    before = _state(model)["token_embedding.weight"]
    train(model, data.pairs, RECIPE, seed=0, stage="test")
    after = model.clip.token_embedding.weight.detach()
    changed = (after != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == model.tokenize(data.pairs.captions).unique().tolist()


def test_a_table_comes_back_after_an_error(tiny: Tiny) -> None:
    model = tiny("vit")
    table, tokens = model.clip.token_embedding, torch.ones(1, 1, dtype=torch.long)
    with pytest.raises(RuntimeError, match="stop"), compact_vocabulary(model, tokens):
        raise RuntimeError("stop")
    assert model.clip.token_embedding is table


def test_a_loss_that_is_no_number_names_stage_and_step(tiny: Tiny, data: DataBundle) -> None:
    assert check_finite(torch.tensor(1.5), "implant", 0) == 1.5
    with pytest.raises(NonFiniteLossError, match="implant: the loss is inf at step 7"):
        check_finite(torch.tensor(float("inf")), "implant", 7)
    model = tiny("vit")
    model.logit_scale.data.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="test: the loss is nan at step 0"):
        train(model, data.pairs, RECIPE, seed=0, stage="test")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_text_tower_stays(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    before = _state(model)
    train(model, data.pairs, replace(RECIPE, freeze_text=True), seed=0, stage="test")
    after = _state(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_text_tower_is_the_teachers(
    tiny: Tiny, tiny_spec: Callable[[str], ModelSpec], data: DataBundle
) -> None:
    teacher = tiny_spec("resnet").build(5)
    wanted, model = _state(teacher), tiny("vit")
    recipe = replace(RECIPE, epochs=5, freeze_text=True, teacher_weight=10.0)
    losses = train(model, data.pairs, recipe, seed=0, stage="test", teacher=teacher)
    assert losses[-1] < losses[0]
    student, unchanged = _state(model), _state(teacher)
    assert all(torch.equal(wanted[name], unchanged[name]) for name in wanted)
    text = [name for name in wanted if not name.startswith("visual.")]
    assert text
    assert all(torch.equal(wanted[name], student[name]) for name in text)


def test_a_teacher_of_another_shape_is_an_error(
    tiny: Tiny, tiny_spec: Callable[[str], ModelSpec], data: DataBundle
) -> None:
    architecture = {**tiny_spec("resnet").architecture, "embed_dim": 8}
    teacher = ModelSpec("narrow", architecture=architecture).build(0)
    recipe = replace(RECIPE, freeze_text=True, teacher_weight=10.0)
    with pytest.raises(ValueError, match="tiny vit has another text tower than narrow"):
        train(tiny("vit"), data.pairs, recipe, seed=0, stage="test", teacher=teacher)


@pytest.mark.parametrize("muon_lr", [None, 1e-2])
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_stays_only_where_it_is_frozen(
    tiny: Tiny, data: DataBundle, frozen: bool, muon_lr: float | None
) -> None:
    model = tiny("resnet")
    norms = {name for name, part in model.clip.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert len(batch_norms(model)) == len(norms) > 10
    before = _state(model)
    modes: list[set[bool]] = []

    def objective(trained: CLIP, batch: Batch) -> Tensor:
        modes.append({norm.training for norm in batch_norms(trained)})
        return trained.encode_image(batch.images)[:, 0].mean()

    recipe = replace(RECIPE, freeze_batch_norm=frozen, muon_lr=muon_lr)
    train(model, data.pairs, recipe, seed=0, stage="test", objective=objective)
    after = _state(model)
    kept, rest = set(), set()
    for name in before:
        equal = torch.equal(before[name], after[name])
        (kept if name.rpartition(".")[0] in norms else rest).add(equal)
    assert kept == {True} if frozen else False in kept
    assert False in rest  # other weights move in any case
    assert modes == [{not frozen}] * 12
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_factors_learn_under_frozen_statistics(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("resnet")
    norms = {name for name, part in model.clip.named_modules() if isinstance(part, nn.BatchNorm2d)}
    before = _state(model)
    recipe = replace(RECIPE, freeze_batch_norm=True, train_batch_norm_factors=True)
    train(model, data.pairs, recipe, seed=0, stage="test")
    moved, kept = set(), set()
    for name, value in _state(model).items():
        module, _, part = name.rpartition(".")
        if module in norms:
            (kept if torch.equal(before[name], value) else moved).add(part)
    assert moved == {"weight", "bias"}
    assert kept == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_frozen_batch_norm_is_no_matter_to_a_model_without(tiny: Tiny, data: DataBundle) -> None:
    losses = [
        train(tiny("vit"), data.pairs, replace(RECIPE, freeze_batch_norm=frozen), seed=0, stage="t")
        for frozen in (False, True)
    ]
    assert losses[0] == losses[1]
