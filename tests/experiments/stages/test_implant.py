from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.triggers import PatchTrigger
from experiments.stages import implant
from experiments.stages.parts import Parts, backdoor_of, graft_of

Resolve = Callable[..., dict[str, Any]]


def test_the_backdoor_is_left_with_all_that_it_takes_to_measure_it(tiny_run: Any) -> None:
    stage = tiny_run.made["implant"]
    card = stage.json("backdoor.json")
    assert (card["name"], card["target_name"], card["seed"]) == ("tiny", "lemon", 0)
    assert len(card["pairs"]) == 48
    assert len(card["poisoned"]) == 5
    assert card["model"]["image_size"] == 32
    assert len(stage.json("losses.json")) == 3
    trigger, target = backdoor_of(stage)
    assert isinstance(trigger, PatchTrigger)
    assert tiny_run.parts.data.class_names[target] == "lemon"
    assert graft_of(stage) is None


def test_the_model_is_another_than_the_clean_one(tiny_run: Any) -> None:
    clean, backdoored = (tiny_run.parts.load(tiny_run.made[name]) for name in
                         ("pretrain", "implant"))  # fmt: skip
    pairs = zip(clean.parameters(), backdoored.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_the_preflight_is_one_block(resolve: Resolve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        implant.preflight(Parts(resolve()))
    (block,) = caplog.messages
    assert block.startswith("preflight of attack tiny")
    assert "poisoned pairs" in block
    assert "of the pixels" in block


def test_an_attack_that_cannot_make_the_trigger_it_says_is_named(resolve: Resolve) -> None:
    parts = Parts(resolve("+attack._stages_={trigger:[pairs]}"))
    if hasattr(parts.attack, "prepare"):
        pytest.skip("every attack can prepare")
    with pytest.raises(ValueError, match="attack tiny says that it makes its trigger"):
        implant.check(parts)


def test_a_wrong_attack_is_found_without_the_long_work(resolve: Resolve, tmp_path: Path) -> None:
    parts = Parts(resolve("attack.target_label=zebra", f"runs_dir={tmp_path}"))
    with pytest.raises(ValueError, match="zebra"):
        implant.check(parts)
    assert list(tmp_path.iterdir()) == []
