from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import (
    BadCLIP,
    BadCLIPPrompt,
    BadEncoder,
    CleanControl,
    GhostEncoder,
    PoisoningAttack,
    TrojanNet,
)
from attacks.badclip import PatchOptimization
from attacks.ghostencoder import HidingTraining
from attacks.triggers import PatchTrigger, trigger_state, trigger_tensors
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.training.recipe import Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(1, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
TRIGGER = PatchTrigger(56)
ATTACK = PoisoningAttack("tiny", "lemon", 24, 0.25, TRIGGER, RECIPE)
ATTACKS: list[Any] = [
    ATTACK,
    CleanControl("none", 24, RECIPE),
    BadCLIP("badclip", "lemon", 24, 0.25, None, RECIPE,
            optimize=PatchOptimization(56, 2, 0.1, 4, 8, 5.0, 1.0, 1.0), selection="mixed"),
    BadEncoder("badencoder", "lemon", 24, TRIGGER, 2, 1.0, 1.0, RECIPE),
    GhostEncoder("ghostencoder", "lemon", 24, None, 2, 1.0, 1.0, RECIPE,
                 hide=HidingTraining(4, 2, 0.2, 16, 2, 4, 1e-2, 5.0)),
    TrojanNet("trojannet", "lemon", 112, 4, 3.0, 3, 0.01, 16, 8),
    BadCLIPPrompt("badclip_prompt", "lemon", 2, "a picture of a", 4, 0.1, 1, 2, 4, 2, 4, 1e-2, 0.1),
]  # fmt: skip
every = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@every
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_contract(attack: Any, kind: str, taught: Taught, plain: DataBundle, state: State) -> None:
    attack.check(plain)
    pairs = plain.pairs.pictures(torch.arange(len(plain.pairs))).clone()
    model, before = taught(kind), state(taught(kind))
    backdoor = attack.implant(model, plain, seed=0)
    # The clean model and the data stay as they are.
    after = state(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(plain.pairs.pictures(torch.arange(len(pairs))), pairs)
    # The backdoored one differs, in weights or in what was added.
    moved = state(backdoor.model)
    assert backdoor.model is not model
    assert any(name not in before or not torch.equal(before[name], moved[name]) for name in moved)
    assert not backdoor.model.training
    assert all(weight.requires_grad for weight in backdoor.model.parameters())
    assert set(backdoor.pairs) <= set(plain.pairs.ids)
    if attack.name == "none":
        assert backdoor.trigger is None
        assert backdoor.target_label is None
    else:
        assert backdoor.target_label == plain.class_names.index("lemon")
        assert not torch.equal(backdoor.trigger(plain.pairs.batch(torch.arange(4))),
                               plain.pairs.batch(torch.arange(4)))  # fmt: skip
    # The seed alone decides.
    torch.rand(7)
    again = attack.implant(model, plain, seed=0)
    assert (again.losses, again.pairs, again.poisoned) == (
        backdoor.losses, backdoor.pairs, backdoor.poisoned,
    )  # fmt: skip
    same = state(again.model)
    assert all(torch.equal(same[name], moved[name]) for name in moved)
    if backdoor.trigger is not None:
        assert trigger_state(again.trigger) == trigger_state(backdoor.trigger)
        tensors, others = trigger_tensors(again.trigger), trigger_tensors(backdoor.trigger)
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    other = attack.implant(model, plain, seed=1)
    assert other.losses != backdoor.losses


@every
def test_an_unknown_target_is_one_clear_line(attack: Any, plain: DataBundle) -> None:
    if attack.name == "none":
        return
    with pytest.raises(ValueError, match="'zebra' is not in the class list of plain: apple,") as e:
        replace(attack, target_label="zebra").check(plain)
    assert "\n" not in str(e.value)


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

    monkeypatch.setattr("attacks.attack.train", train)
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
