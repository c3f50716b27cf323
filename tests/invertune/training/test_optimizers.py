from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import load_weights, save_weights
from invertune.data.bundle import DataBundle
from invertune.training.optimizers import Optimizers
from invertune.training.recipe import Recipe
from invertune.training.train import train

Tiny = Callable[[str], CLIP]
RECIPE = Recipe(2, 8, 3e-3, (0.9, 0.98), 0.1, 0.1)
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def _state(model: CLIP) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.clip.state_dict().items()}


def test_the_learning_rate_rises_and_falls(tiny: Tiny) -> None:
    optimizers = Optimizers(tiny("vit"), replace(RECIPE, warmup=0.2), total_steps=20)
    factors = [optimizers.factor(step) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[12] == pytest.approx(0.5)  # half of the cosine's 16 steps
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert 0 < factors[-1] < 0.02


def test_a_line_may_descend_to_a_cosine_that_ends_above_0(tiny: Tiny) -> None:
    recipe = replace(RECIPE, warmup=0.5, warmup_from=10.0, cosine_to=0.2)
    optimizers = Optimizers(tiny("vit"), recipe, total_steps=8)
    # Four steps from 10 down to 1; then 0.2 + 0.8 (1 + cos(k pi / 4)) / 2.
    wanted = [7.75, 5.5, 3.25, 1.0, 1.0, 0.882843, 0.6, 0.317157]
    assert [optimizers.factor(step) for step in range(8)] == pytest.approx(wanted, abs=1e-6)


def test_without_further_fields_rates_are_to_the_bit_what_they_were(tiny: Tiny) -> None:
    optimizers = Optimizers(tiny("vit"), replace(RECIPE, warmup=0.1), total_steps=70)
    rises = [(step + 1) / 7 for step in range(7)]
    falls = [0.5 * (1 + math.cos(math.pi * step / 63)) for step in range(63)]
    assert [optimizers.factor(step) for step in range(70)] == rises + falls


def test_the_factor_reaches_both_optimizers(tiny: Tiny) -> None:
    recipe = replace(RECIPE, lr=1e-3, muon_lr=1e-2, warmup=0.5, warmup_from=10.0)
    optimizers = Optimizers(tiny("vit"), recipe, total_steps=4)
    assert optimizers.muon is not None
    optimizers.step(optimizers.factor(0))
    for optimizer, lr in ((optimizers.adamw, 5.5e-3), (optimizers.muon, 5.5e-2)):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [lr] * len(optimizer.param_groups)
        )


def test_biases_and_norms_do_not_decay(tiny: Tiny) -> None:
    model = tiny("resnet")
    decayed, plain = Optimizers(model, RECIPE, 10).adamw.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all(weight.dim() >= 2 for weight in decayed["params"])
    assert all(weight.dim() < 2 for weight in plain["params"])
    total = sum(len(group["params"]) for group in (decayed, plain))
    assert total == len(list(model.parameters()))


@both
def test_muon_sees_the_weights_themselves(
    tiny: Tiny, tiny_spec: Callable[[str], ModelSpec], kind: str, tmp_path: Path
) -> None:
    save_weights(tiny(kind), tmp_path / "w")
    built = tiny_spec(kind).build(1)
    for model in (built, tiny(kind), load_weights(built, tmp_path / "w")):
        optimizers = Optimizers(model, replace(RECIPE, muon_lr=1e-2), 10)
        assert optimizers.muon is not None
        pairs = list(zip(optimizers.matrices.weights, optimizers.matrices.views, strict=True))
        assert pairs
        for weight, view in pairs:
            assert view.dim() == 2
            assert view.data_ptr() == weight.data_ptr()
            view.data.zero_()
            assert weight.eq(0).all()
        names = {id(weight): name for name, weight in model.named_parameters()}
        hidden = {names[id(weight)] for weight, _ in pairs}
        assert not any("embedding" in name or "text_projection" in name for name in hidden)
        assert any("visual" in name for name in hidden)


def test_every_weight_is_of_one_optimizer(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("resnet")
    before = _state(model)
    train(model, data.pairs, replace(RECIPE, muon_lr=1e-2), seed=0, stage="test")
    after, weights = _state(model), dict(model.clip.named_parameters())
    still = [name for name in weights if torch.equal(before[name], after[name])]
    assert still == []
