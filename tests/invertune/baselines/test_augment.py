from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from invertune.baselines.augment import AutoAugment, ImageAugmentation, each_apart
from invertune.baselines.crop_and_color import CropAndColor

PAPER = CropAndColor(
    crop=(0.08, 1.0), jitter=(0.5, 0.5, 0.5, 0.1), jittered=0.8, gray=0.2, blur=(4.5e-4, 8.9e-3)
)
every = pytest.mark.parametrize("augment", [AutoAugment(), PAPER], ids=["auto", "crop"])


Noise = Callable[..., Tensor]
Seeded = Callable[..., torch.Generator]


@every
def test_the_generator_alone_decides_and_the_global_one_stays(
    noise: Noise, seeded: Seeded, augment: ImageAugmentation
) -> None:
    images = noise()
    before, state = images.clone(), torch.get_rng_state()
    first = augment(images, seeded())
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)  # moves the global generator
    assert torch.equal(first, augment(images, seeded()))
    assert not torch.equal(first, augment(images, seeded(1)))
    assert torch.equal(images, before)


@every
def test_bytes_and_shares_are_changed_alike(
    noise: Noise, seeded: Seeded, augment: ImageAugmentation
) -> None:
    images = noise()
    changed, shares = augment(images, seeded()), augment(images.float() / 255, seeded())
    assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
    assert shares.dtype == torch.float32
    assert torch.equal(changed.float() / 255, shares)


@every
def test_each_image_has_a_draw_of_its_own(
    noise: Noise, seeded: Seeded, augment: ImageAugmentation
) -> None:
    alike = noise(1).expand(12, -1, -1, -1)
    changed = augment(alike, seeded())
    assert len(torch.unique(changed.flatten(1), dim=0)) > 6


@every
def test_no_image_is_no_error(noise: Noise, seeded: Seeded, augment: ImageAugmentation) -> None:
    assert augment(noise(0), seeded()).shape == (0, 3, 24, 24)


def test_a_draw_depends_on_the_place_in_the_batch_alone(noise: Noise, seeded: Seeded) -> None:
    """Longer batches begin like shorter ones: what else is in them does not matter."""
    images = noise()
    some, all_ = AutoAugment()(images[:3], seeded()), AutoAugment()(images, seeded())
    assert torch.equal(some, all_[:3])


def test_operations_with_a_magnitude_move_by_the_policys_shares(seeded: Seeded) -> None:
    """A flat gray image only changes where black comes in or colors are inverted."""
    gray = torch.full((200, 3, 20, 20), 128, dtype=torch.uint8)
    values = set(AutoAugment()(gray, seeded()).flatten().tolist())
    assert 0 in values  # the ground of what was moved
    assert 127 in values  # inverted or solarized
    assert 128 in values  # sharpness, contrast and color do nothing to it


def test_another_transform_is_drawn_for_each_image_too(seeded: Seeded) -> None:
    def noisy(image: Tensor) -> Tensor:
        return image + torch.randint(2, image.shape).to(torch.uint8)

    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    one, other = each_apart(noisy, images, seeded())
    assert not torch.equal(one, other)


@every
def test_half_precision_around_it_changes_nothing(
    noise: Noise, seeded: Seeded, augment: ImageAugmentation
) -> None:
    plain = augment(noise(), seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(noise(), seeded()), plain)
