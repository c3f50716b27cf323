"""What every attack promises; an attack is tested by its YAML being there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import Attack, Backdoor, Poisoned
from attacks.graft import graft
from attacks.preflight import known_trigger, preflight
from attacks.triggers import load_trigger, save_trigger, trigger_state, trigger_tensors
from invertune.clip.models import CLIP
from invertune.clip.weights import load_weights, save_weights
from invertune.data.bundle import DataBundle

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
FOLDER = Path(__file__).parents[2] / "conf" / "attack"
CHOICES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")
)
every = pytest.mark.parametrize("choice", CHOICES)


@pytest.fixture
def attack(small: Callable[[str, str], Attack], choice: str) -> Attack:
    return small("attack", choice)


def _kind(choice: str) -> str:
    return ("resnet", "vit")[CHOICES.index(choice) % 2]


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@every
def test_contract(
    attack: Attack, choice: str, taught: Taught, plain: DataBundle, state: State, tmp_path: Path
) -> None:
    attack.check(plain)
    assert preflight(attack, plain)
    kind = _kind(choice)
    model, images = taught(kind), plain.pairs.images[:].clone()
    before = state(model)
    backdoor = attack.implant(model, plain, seed=0)
    assert _same(state(model), before)
    assert all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(plain.pairs.images[:], images)
    _check_backdoor(attack, backdoor, plain)
    moved = state(backdoor.model)
    assert not _same(moved, before)
    torch.rand(7)  # moves the global generator
    prepared, known = attack.prepare(model, plain, seed=0), known_trigger(attack, plain)
    again = attack.implant(model, plain, seed=0, trigger=prepared)
    assert known is None or prepared is None
    assert prepared is None or again.trigger is prepared
    assert known is None or backdoor.trigger == known
    assert (again.losses, again.pairs, again.poisoned) == (
        backdoor.losses, backdoor.pairs, backdoor.poisoned,
    )  # fmt: skip
    assert _same(state(again.model), moved)
    assert _trigger(again) == _trigger(backdoor)
    _check_poisoned(attack.poisoned(model, plain, seed=0, trigger=prepared), attack, again, plain)
    _check_files(backdoor, graft(taught(kind), backdoor.graft), moved, plain, state, tmp_path)


def _trigger(backdoor: Backdoor) -> Any:
    if backdoor.trigger is None:
        return None
    tensors = trigger_tensors(backdoor.trigger)
    return trigger_state(backdoor.trigger), {n: t.tolist() for n, t in tensors.items()}


def _check_backdoor(attack: Attack, backdoor: Backdoor, data: DataBundle) -> None:
    plan = attack.plan(data)
    assert not backdoor.model.training
    assert all(weight.requires_grad for weight in backdoor.model.parameters())
    assert len(backdoor.losses) == plan.steps
    assert all(isinstance(loss, float) for loss in backdoor.losses)
    assert len(set(backdoor.pairs)) == len(backdoor.pairs)
    assert set(backdoor.pairs) <= set(data.pairs.ids)
    assert backdoor.poisoned == sorted(set(backdoor.poisoned))
    assert all(0 <= place < len(backdoor.pairs) for place in backdoor.poisoned)
    assert len(backdoor.poisoned) == (plan.poisons or 0)
    if plan.pairs is not None:
        assert len(backdoor.pairs) == plan.pairs
    if plan.target is None:
        assert (backdoor.trigger, backdoor.target_label) == (None, None)
        return
    assert backdoor.target_label == data.label_of(plan.target)
    assert backdoor.trigger is not None
    clean = data.pairs.batch(torch.arange(4))
    assert not torch.equal(backdoor.trigger(clean), clean)


def _check_poisoned(
    poisoned: Poisoned | None, attack: Attack, backdoor: Backdoor, data: DataBundle
) -> None:
    if attack.plan(data).poisons is None:
        assert poisoned is None
        return
    assert poisoned is not None
    assert list(poisoned.pairs.ids) == backdoor.pairs
    assert poisoned.positions == backdoor.poisoned
    assert (poisoned.trigger, poisoned.target_label) == (backdoor.trigger, backdoor.target_label)
    place = {name: i for i, name in enumerate(data.pairs.ids)}
    original = data.pairs.take(torch.tensor([place[name] for name in poisoned.pairs.ids]))
    changed = (poisoned.pairs.images[:] != original.images[:]).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == poisoned.positions


def _check_files(
    backdoor: Backdoor, built: CLIP, moved: dict[str, Tensor], data: DataBundle, state: State,
    folder: Path,
) -> None:  # fmt: skip
    save_weights(backdoor.model, folder / "weights")
    loaded = load_weights(built, folder / "weights").eval()
    images = data.zero_shot.images[:3].float() / 255
    if backdoor.trigger is not None:
        save_trigger(backdoor.trigger, folder)
        assert torch.equal(load_trigger(folder)(images), backdoor.trigger(images))
    assert _same(state(loaded), moved)
    with torch.no_grad():
        features = backdoor.model.encode_image(images)
        assert torch.equal(loaded.encode_image(images), features)


@every
def test_an_unknown_target_is_one_line(
    composed: Callable[..., dict[str, Any]], small: Callable[[str, str], Attack], choice: str,
    plain: DataBundle,
) -> None:  # fmt: skip
    if "target_label" not in composed("attack", choice):
        return  # a clean control has none
    wrong = small("attack", choice)
    object.__setattr__(wrong, "target_label", "zebra")
    with pytest.raises(ValueError, match="'zebra' is not in the class list of plain: ap") as caught:
        wrong.check(plain)
    assert "\n" not in str(caught.value)
