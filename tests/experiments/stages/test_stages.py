from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.stages.artifacts import WEIGHTS
from experiments.stages.keys import StageKey
from experiments.stages.stages import Stages
from experiments.stages.store import CHECKPOINT, StageStore
from invertune.clip.models import ModelSpec
from invertune.clip.weights import load_weights, save_weights
from invertune.data.bundle import ImageTextPairs
from invertune.training.recipe import Recipe
from invertune.training.train import train

Resolve = Callable[..., dict[str, Any]]


def _names(config: dict[str, Any]) -> dict[str, str]:
    stages = Stages(config)
    keys = {
        "pretrain": stages.pretrain_key(),
        "implant": stages.implant_key(),
        "purify": stages.purify_key(),
        "evaluate clean": stages.evaluate_key(stages.pretrain_key()),
        "evaluate purified": stages.evaluate_key(stages.purify_key()),
        "inspect": stages.inspect_key(),
    }
    return {name: key.folder_name for name, key in keys.items()}


ALL = {"pretrain", "implant", "purify", "evaluate clean", "evaluate purified", "inspect"}
AFTER_ATTACK = ALL - {"pretrain"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", ALL),
        ("data.seed=1", ALL),
        ("model.pretrain.lr=0.5", ALL),
        ("attack.poison_rate=0.2", AFTER_ATTACK),
        ("+defense.clean_samples=3", {"purify", "evaluate purified", "inspect"}),
        ("+evaluation.kind=other", {"evaluate clean", "evaluate purified", "inspect"}),
        ("evaluation.batch_size=7", set()),
        ("device=cpu", set()),
        ("threads=2", set()),
        ("runs_dir=elsewhere", set()),
        ("tracking=offline", set()),
    ],
)
def test_a_stage_depends_on_its_own_part_and_on_its_inputs(
    resolve: Resolve, override: str, changed: set[str]
) -> None:
    before, after = _names(resolve()), _names(resolve(override))
    assert {name for name in ALL if before[name] != after[name]} == changed


def test_a_teacher_is_the_stage_of_that_model_alone(resolve: Resolve) -> None:
    config = resolve()
    taught = {**config, "model": {**config["model"], "name": "student", "teacher": config["model"]}}
    key = Stages(taught).pretrain_key()
    assert key.inputs == {"teacher": Stages(config).pretrain_key().hash}
    assert Stages(
        {**config, "model": {**config["model"], "teacher": None}}
    ).pretrain_key().hash == (Stages(config).pretrain_key().hash)


@pytest.mark.parametrize(
    ("attack", "remade_by"),
    [
        # A patch is optimized on the clean model, for a target.
        ("badclip", {"seed=1", "data.seed=1", "model.pretrain.lr=0.5", "attack.target_label=key",
                     "attack.optimize.steps=7"}),
        # A hiding network is trained on the data alone, whatever it is used for.
        ("ghostencoder", {"data.seed=1", "attack.hide.steps=7"}),
    ],
)  # fmt: skip
def test_a_trigger_that_is_made_is_a_stage_of_its_own(
    resolve: Resolve, attack: str, remade_by: set[str]
) -> None:
    def keys(*overrides: str) -> tuple[str, str]:
        stages = Stages(resolve(*overrides))
        trigger = stages.trigger_key()
        assert trigger is not None
        implant = stages.implant_key()
        assert implant.inputs["trigger"] == trigger.hash
        assert stages.roles()["implant/trigger"] == trigger
        return trigger.hash, implant.hash

    part = "optimize" if attack == "badclip" else "hide"
    before = keys(f"attack={attack}")
    others = {"seed=1", "data.seed=1", "model.pretrain.lr=0.5", "attack.target_label=key",
              f"attack.{part}.steps=7", "attack.recipe.lr=0.5", "attack.pairs=9"}  # fmt: skip
    after = {override: keys(f"attack={attack}", override) for override in others}
    assert {override for override in others if after[override][0] != before[0]} == remade_by
    assert all(implant != before[1] for _, implant in after.values())


def test_a_trigger_that_is_given_is_no_stage(resolve: Resolve) -> None:
    stages = Stages(resolve())
    assert stages.trigger_key() is None
    assert "implant/trigger" not in stages.roles()
    assert stages.implant_key().inputs == {"model": stages.pretrain_key().hash}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed is an integer of at least 0, got -1"),
        ("seed=zero", "seed is an integer of at least 0, got 'zero'"),
        ("device=tpu", "device is one of auto, cpu, cuda, got 'tpu'"),
        ("threads=0", "threads is null or an integer of at least 1, got 0"),
        ("evaluation.batch_size=0", "evaluation.batch_size is an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(resolve: Resolve, override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Stages(resolve(override))


def test_sizes_that_do_not_fit_are_found_before_any_work(resolve: Resolve, tmp_path: Path) -> None:
    stages = Stages(resolve("data.image_size=48", f"runs_dir={tmp_path / 'runs'}"))
    with pytest.raises(ValueError, match="takes images of 32 pixels, data tiny has 48"):
        stages.check()
    assert not (tmp_path / "runs").exists()


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

    key = StageKey("train", 1, {}, {}, 0)
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
