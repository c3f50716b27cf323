from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks.triggers import HiddenTrigger
from attacks.triggers.hidden import HidingNetwork

SECRET = [0, 1, 1, 0]


@pytest.fixture(scope="module")
def trigger() -> HiddenTrigger:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HidingNetwork(len(SECRET), 4, 0.1)
    network.secret.weight.data.mul_(3)
    network.residual.weight.data.mul_(3)  # an untrained network hardly looks at the image
    return HiddenTrigger(SECRET, 4, 0.1, network.state_dict())


def _images(count: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(64, 192, (count, 3, side, side), generator=generator)
    return levels / 255


def test_the_change_is_bounded_and_another_one_for_every_image(trigger: HiddenTrigger) -> None:
    change = trigger(_images()) - _images()
    assert 0.02 < change.abs().max() < 0.1 + 0.51 / 255
    assert (change[0] - change[1]).abs().max() > 2 / 255
    assert (change[1] - change[2]).abs().max() > 2 / 255


def test_the_secret_decides_the_change(trigger: HiddenTrigger) -> None:
    other = replace(trigger, secret=[1, 1, 1, 0])
    assert not torch.equal(other(_images()), trigger(_images()))


def test_the_weights_are_the_networks(trigger: HiddenTrigger) -> None:
    moved = {name: tensor.clone() for name, tensor in trigger.weights.items()}
    moved["residual.bias"] += 1
    assert not torch.equal(replace(trigger, weights=moved)(_images()), trigger(_images()))
    assert not any(weight.requires_grad for weight in trigger.network.parameters())


@pytest.mark.parametrize("size", [(40, 32), (32, 24)])
def test_sides_are_multiples_of_16(trigger: HiddenTrigger, size: tuple[int, int]) -> None:
    said = f"sides that are multiples of 16, got {size[0]}x{size[1]}"
    with pytest.raises(ValueError, match=said):
        trigger(torch.zeros(1, 3, *size))
