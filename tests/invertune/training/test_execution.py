from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.training.distributed import Ranks
from invertune.training.execution import Execution, current
from invertune.training.recipe import Recipe
from invertune.training.train import train

RECIPE = Recipe(0.2, 24, 3e-3, (0.9, 0.98), 0.1, 0.1, freeze_batch_norm=True)
Tiny = Callable[[str], CLIP]


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize(
    "fields", [{"chunk": 7}, {"checkpointing": True}, {"chunk": 7, "checkpointing": True}], ids=str
)
def test_speed_changes_no_gradient(
    tiny: Tiny, data: DataBundle, monkeypatch: pytest.MonkeyPatch, kind: str, fields: dict[str, Any]
) -> None:
    plain, fast = (
        _gradients(tiny(kind), data, execution, monkeypatch)
        for execution in (Execution(precision="fp32"), Execution(precision="fp32", **fields))
    )
    assert plain.keys() == fast.keys()
    largest = max(gradient.norm() for gradient in plain.values())
    for name, gradient in plain.items():
        scale = max(gradient.norm(), 1e-2 * largest)
        assert (fast[name] - gradient).norm() < 1e-5 * scale, name


def _gradients(
    model: CLIP, data: DataBundle, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    found = {}

    def keep(*_: object) -> None:
        named = model.named_parameters()
        found.update({name: w.grad.clone() for name, w in named if w.grad is not None})

    monkeypatch.setattr("invertune.training.optimizers.Optimizers.step", keep)
    with execution.used():
        train(model, data.pairs, RECIPE, seed=0, stage="test")
    return found


def test_compiled_towers_learn_the_same(
    tiny: Tiny, data: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another backend than the usual one, which would call a compiler of C++ for a minute.
    compiled, own = list[str](), torch.nn.Module.compile

    def compile_eagerly(module: torch.nn.Module) -> None:
        compiled.append(type(module).__name__)
        own(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    losses = []
    for execution in (Execution(precision="fp32"), Execution(precision="fp32", compile=True)):
        model = tiny("vit")
        with execution.used():
            losses += train(model, data.pairs, RECIPE, seed=0, stage="test")
        assert model.visual._compiled_call_impl is None
    assert compiled == ["VisionTransformer", "Transformer"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_execution_is_in_use_in_its_block_alone() -> None:
    assert current() == Execution()
    with Execution(chunk=3).used(), Execution(chunk=4).used():
        assert current().chunk == 4
    assert current() == Execution()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"precision": "fp16"}, "precision is one of auto, bf16, fp32, got 'fp16'"),
        ({"chunk": 0}, "chunk is an integer of at least 1, got 0"),
        ({"compile": "yes"}, "compile is true or false, got 'yes'"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Execution(**fields)


def test_dropout_would_be_drawn_for_every_part(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    model.visual.patch_dropout = torch.nn.Dropout(0.1)
    train(model, data.pairs, RECIPE, seed=0, stage="test")
    with (
        pytest.raises(ValueError, match="test: tiny vit has dropout"),
        replace(Execution(), ranks=Ranks(0, 2)).used(),
    ):
        train(model, data.pairs, RECIPE, seed=0, stage="test")


def test_precision_is_what_is_asked_for() -> None:
    cpu = torch.device("cpu")
    for name, enabled in (("bf16", True), ("fp32", False)):
        with Execution(precision=name).autocast(cpu):
            assert torch.is_autocast_enabled("cpu") == enabled
