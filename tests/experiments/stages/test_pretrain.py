from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.stages import pretrain
from experiments.stages.artifacts import WEIGHTS
from experiments.stages.code import installed
from experiments.stages.keys import Planner, Stage, StageKey
from experiments.stages.stages import Stages
from experiments.stages.store import CHECKPOINT, StageStore
from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import load_weights, save_weights
from invertune.data.bundle import ImageTextPairs
from invertune.training.recipe import Recipe
from invertune.training.train import train

Resolve = Callable[..., dict[str, Any]]


def _stage(config: Mapping[str, Any]) -> Stage:
    return pretrain.stage(Planner(config, installed()))


def test_a_teacher_is_the_stage_of_that_model_alone(resolve: Resolve) -> None:
    config = resolve()
    taught = {**config, "model": {**config["model"], "name": "student", "teacher": config["model"]}}
    stage = _stage(taught)
    assert stage.key.inputs == {"teacher": _stage(config).key.hash}
    assert stage.inputs["teacher"].role == "pretrain/teacher"
    alone = {**config, "model": {**config["model"], "teacher": None}}
    assert _stage(alone).key.hash == _stage(config).key.hash


class _Shipped:
    """What the package would have: weights of ones."""

    def __init__(self, **card: Any) -> None:
        self.card = {"sha256": "ab" * 32, "losses": [2.0, 1.0], **card}

    def load(self, model: CLIP) -> None:
        with torch.no_grad():
            model.clip.logit_scale.fill_(1.0)

    def describe(self) -> str:
        return "tiny: shipped"


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Let a file be shipped, and return what was asked for."""

    def shipped(found: _Shipped | None) -> list[Any]:
        asked: list[Any] = []

        def find(model: Any, data: Any, seed: int) -> _Shipped | None:
            asked.append((model, data, seed))
            return found

        monkeypatch.setattr(pretrain, "find_shipped", find)
        return asked

    return shipped


def test_only_a_model_that_may_be_shipped_is_looked_for(
    resolve: Resolve, ship: Callable[..., list[Any]]
) -> None:
    asked = ship(_Shipped())
    plain = _stage(resolve())
    assert plain.key.hash == _stage(resolve("+model.shipped=false")).key.hash
    assert asked == []
    taken = _stage(resolve("+model.shipped=true"))
    assert taken.key.hash != plain.key.hash
    assert taken.inputs == {}
    config = resolve()
    assert asked == [(config["model"], config["data"], 0)]  # the field itself is not the model's


def test_the_key_of_a_training_does_not_depend_on_what_may_be(
    resolve: Resolve, ship: Callable[..., list[Any]]
) -> None:
    ship(None)
    assert _stage(resolve("+model.shipped=true")).key.hash == _stage(resolve()).key.hash


def test_a_shipped_file_of_other_code_is_left(
    resolve: Resolve, ship: Callable[..., list[Any]]
) -> None:
    ship(_Shipped(code={"invertune.training.train": 7}))
    assert _stage(resolve("+model.shipped=true")).key.hash == _stage(resolve()).key.hash


@pytest.mark.parametrize("words", [["+model.shipped=true"], ["+model.shipped=false"]])
def test_a_clean_model_says_where_it_is_from(
    resolve: Resolve, ship: Callable[..., list[Any]], tmp_path: Path, words: list[str]
) -> None:
    ship(_Shipped())
    stages = Stages(resolve(f"runs_dir={tmp_path}", *words))
    made = stages.obtain(stages.stages[0])
    shipped = words == ["+model.shipped=true"]
    assert made.json("pretrained.json")["source"] == ("shipped" if shipped else "trained")
    assert (made.json("losses.json") == [2.0, 1.0]) == shipped
    scale = stages.parts.load(made).clip.logit_scale.item()
    assert (scale == 1.0) == shipped


SPEC = ModelSpec(
    "weights of a few",
    architecture={
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    },
)
RECIPE = Recipe(3, 4, 1e-2, (0.9, 0.98), 0.1, 0.1, muon_lr=1e-2)


def test_an_interrupted_training_ends_like_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    images = torch.randint(256, (12, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    pairs = ImageTextPairs(
        images.to(torch.uint8), [f"a {i}" for i in range(12)], [str(i) for i in range(12)]
    )

    def made(folder: Path) -> None:
        model = SPEC.build(0)
        losses = train(
            model, pairs, RECIPE, seed=0, stage="t",
            checkpoint=folder / CHECKPOINT, checkpoint_every=2,
        )  # fmt: skip
        save_weights(model, folder / WEIGHTS)
        (folder / "losses.json").write_text(json.dumps(losses))

    key = StageKey("train", {}, {}, 0)
    batch, steps = ImageTextPairs.batch, iter(range(5))

    def interrupted(self: ImageTextPairs, index: torch.Tensor) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return batch(self, index)

    straight = StageStore(tmp_path / "a").obtain(key, made)
    broken = StageStore(tmp_path / "b")
    monkeypatch.setattr(ImageTextPairs, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.obtain(key, made)
    monkeypatch.undo()
    resumed = broken.obtain(key, made)
    assert resumed.manifest["resumed"]
    assert resumed.json("losses.json") == straight.json("losses.json")
    one = load_weights(SPEC.build(1), straight.file(WEIGHTS)).clip.state_dict()
    other = load_weights(SPEC.build(2), resumed.file(WEIGHTS)).clip.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
