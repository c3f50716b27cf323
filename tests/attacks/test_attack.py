from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from attacks.attack import Attack, Backdoor, Plan, check_fits, given_trigger
from attacks.triggers import PatchTrigger, Trigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle

TRIGGER = PatchTrigger(56)


@dataclass(frozen=True)
class Own(Attack):
    """The least that an attack of one's own has."""

    name: str = "own"

    def check(self, data: DataBundle) -> None:
        pass

    def plan(self, data: DataBundle) -> Plan:
        return Plan(1)

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        return Backdoor(model, TRIGGER, 0, [], [])


def test_what_an_attack_leaves_out_is_inherited(
    data: DataBundle, tiny: Callable[[str], CLIP]
) -> None:
    attack, model = Own(), tiny("vit")
    assert attack.prepare(None, data, seed=0) is None
    assert attack.poisoned(model, data, seed=0) is None
    assert attack.implant(model, data, seed=0).losses == []


def test_a_prepared_trigger_comes_before_the_attacks_own() -> None:
    prepared = PatchTrigger(100)
    assert given_trigger("own", TRIGGER, prepared) is prepared
    assert given_trigger("own", TRIGGER, None) is TRIGGER
    with pytest.raises(ValueError, match="attack own needs a trigger"):
        given_trigger("own", None, None)


def test_a_trigger_is_tried_on_an_image_of_the_datas_size(data: DataBundle) -> None:
    sizes: list[torch.Size] = []

    def trigger(images: torch.Tensor) -> torch.Tensor:
        sizes.append(images.shape)
        return images

    check_fits(trigger, data)
    assert sizes == [(1, 3, 32, 32)]
    with pytest.raises(ValueError, match="does not fit into a 32x32 image"):
        check_fits(PatchTrigger(231), data)
