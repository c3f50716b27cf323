from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from attacks import CleanControl, PoisoningAttack
from attacks.triggers import PatchTrigger
from invertune.data.bundle import DataBundle
from invertune.models import CLIP
from invertune.train import Recipe

RECIPE = Recipe(1, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
ATTACK = PoisoningAttack("tiny", "lemon", 24, 0.25, PatchTrigger(8), RECIPE)


def test_implanting_leaves_the_clean_model_as_it_is(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    model = tiny("resnet")
    backdoor = ATTACK.implant(model, data, seed=0)
    before, after = tiny("resnet").state_dict(), model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = backdoor.model.state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert backdoor.model is not model


def test_a_backdoor_comes_with_all_that_measures_it(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    backdoor = ATTACK.implant(tiny("resnet"), data, seed=0)
    assert backdoor.trigger == ATTACK.trigger
    assert backdoor.target_label == data.class_names.index("lemon")
    assert len(set(backdoor.pairs)) == 24
    assert set(backdoor.pairs) <= set(data.pairs.ids)
    assert len(set(backdoor.poisoned)) == 6
    assert all(0 <= position < 24 for position in backdoor.poisoned)
    assert len(backdoor.losses) == 3
    again = ATTACK.implant(tiny("resnet"), data, seed=0)
    assert (again.pairs, again.poisoned) == (backdoor.pairs, backdoor.poisoned)
    assert again.losses == backdoor.losses


def test_the_control_has_no_trigger(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    control = CleanControl("none", 24, RECIPE)
    control.check(data)
    tuned = control.implant(tiny("resnet"), data, seed=0)
    assert tuned.trigger is None
    assert tuned.target_label is None
    assert tuned.poisoned == []
    # The same pairs as those of an attack with this seed.
    assert tuned.pairs == ATTACK.implant(tiny("resnet"), data, seed=0).pairs


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (replace(ATTACK, target_label="zebra"), "'zebra' is not in the class list"),
        (replace(ATTACK, poison_rate=0.01), "rounds to 0 samples"),
        (replace(ATTACK, pairs=49), "between 1 and 48"),
        (replace(ATTACK, trigger=PatchTrigger(225)), "does not fit into a 32x32 image"),
        (CleanControl("none", 49, RECIPE), "between 1 and 48"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    attack: PoisoningAttack, said: str, data: DataBundle
) -> None:
    with pytest.raises(ValueError, match=said):
        attack.check(data)
