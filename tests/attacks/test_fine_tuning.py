from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import (
    CleanControl,
    PoisoningAttack,
)
from attacks.triggers import PatchTrigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.training.recipe import Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(1, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
TRIGGER = PatchTrigger(56)
ATTACK = PoisoningAttack("tiny", "lemon", 24, 0.25, TRIGGER, RECIPE)


def test_a_backdoor_comes_with_all_that_measures_it(taught: Taught, plain: DataBundle) -> None:
    backdoor = ATTACK.implant(taught("resnet"), plain, seed=0)
    assert backdoor.trigger == ATTACK.trigger
    assert len(set(backdoor.pairs)) == 24
    assert len(set(backdoor.poisoned)) == 6
    assert backdoor.poisoned == sorted(backdoor.poisoned)
    assert all(0 <= position < 24 for position in backdoor.poisoned)
    assert len(backdoor.losses) == 3
    assert backdoor.graft is None


def test_the_poisoned_pairs_name_the_target(
    taught: Taught, plain: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def train(_model: CLIP, pairs: Any, *_: Any, **__: Any) -> list[float]:
        seen.append(pairs)
        return []

    monkeypatch.setattr("attacks.fine_tuning.train", train)
    backdoor = ATTACK.implant(taught("vit"), plain, seed=0)
    captions = [template.format("a lemon") for template in plain.templates]
    place = {name: i for i, name in enumerate(plain.pairs.ids)}
    for position, name in enumerate(backdoor.pairs):
        original = torch.tensor([place[name]])
        found = seen[0].batch(torch.tensor([position]))
        if position in backdoor.poisoned:
            assert seen[0].captions[position] in captions
            assert torch.equal(found, TRIGGER(plain.pairs.batch(original)))
        else:
            assert seen[0].captions[position] == plain.pairs.captions[place[name]]
            assert torch.equal(found, plain.pairs.batch(original))


def test_a_prepared_trigger_is_used(taught: Taught, plain: DataBundle) -> None:
    prepared = PatchTrigger(112, "top_left", pattern="white")
    found = ATTACK.implant(taught("vit"), plain, seed=0, trigger=prepared)
    wanted = replace(ATTACK, trigger=prepared).implant(taught("vit"), plain, seed=0)
    assert found.trigger == prepared
    assert found.losses == wanted.losses
    assert found.losses != ATTACK.implant(taught("vit"), plain, seed=0).losses
    with pytest.raises(ValueError, match="attack tiny needs a trigger"):
        replace(ATTACK, trigger=None).implant(taught("vit"), plain, seed=0)


def test_the_control_sees_the_pairs_of_an_attack(taught: Taught, plain: DataBundle) -> None:
    tuned = CleanControl("none", 24, RECIPE).implant(taught("resnet"), plain, seed=0)
    assert tuned.poisoned == []
    assert tuned.pairs == ATTACK.implant(taught("resnet"), plain, seed=0).pairs


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (replace(ATTACK, poison_rate=0.01), "rounds to 0 samples"),
        (replace(ATTACK, pairs=97), "between 1 and 96"),
        (replace(ATTACK, trigger=PatchTrigger(231)), "does not fit into a 32x32 image"),
        (CleanControl("none", 97, RECIPE), "between 1 and 96"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    attack: PoisoningAttack, said: str, plain: DataBundle
) -> None:
    with pytest.raises(ValueError, match=said):
        attack.check(plain)
