from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.triggers import load_trigger
from experiments.stages.stages import Stages, list_stages

Resolve = Callable[..., dict[str, Any]]
HIDING = ["attack=ghostencoder", "attack.hide.steps=2", "attack.hide.batch_size=8",
          "attack.hide.images=48", "attack.pairs=48", "attack.recipe.batch_size=16",
          "attack.target_label=socks"]  # fmt: skip


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
        stages = {stage.role: stage for stage in list_stages(resolve(*overrides))}
        trigger, implant = stages["implant/trigger"].key, stages["implant"].key
        assert implant.inputs["trigger"] == trigger.hash
        return trigger.hash, implant.hash

    part = "optimize" if attack == "badclip" else "hide"
    before = keys(f"attack={attack}")
    others = {"seed=1", "data.seed=1", "model.pretrain.lr=0.5", "attack.target_label=key",
              f"attack.{part}.steps=7", "attack.recipe.lr=0.5", "attack.pairs=9"}  # fmt: skip
    after = {override: keys(f"attack={attack}", override) for override in others}
    assert {override for override in others if after[override][0] != before[0]} == remade_by
    assert all(implant != before[1] for _, implant in after.values())


def test_a_trigger_that_is_given_is_no_stage(resolve: Resolve) -> None:
    stages = {stage.role: stage for stage in list_stages(resolve())}
    assert "implant/trigger" not in stages
    assert stages["implant"].key.inputs == {"model": stages["pretrain"].key.hash}


def test_one_hidden_trigger_serves_all_seeds(resolve: Resolve, tmp_path: Path) -> None:
    def made(seed: int) -> Any:
        stages = Stages(resolve(*HIDING, f"seed={seed}", f"runs_dir={tmp_path}"))
        return stages.obtain(next(one for one in stages.stages if one.role == "implant/trigger"))

    one, other = made(0), made(1)
    assert one.path == other.path
    images = torch.rand(2, 3, 32, 32)
    stamped = load_trigger(one.folder)(images)
    assert stamped.shape == images.shape
    assert not torch.equal(stamped, images)
