from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tv

from invertune.baselines.augment import AutoAugment, ImageAugmentation, each_apart
from invertune.baselines.crop_and_color import CropAndColor

PLAIN = CropAndColor(
    crop=(1.0, 1.0), jitter=(0.0, 0.0, 0.0, 0.0), jittered=0.0, gray=0.0, blur=(1e-4, 1e-4)
)
PAPER = CropAndColor(
    crop=(0.08, 1.0), jitter=(0.5, 0.5, 0.5, 0.1), jittered=0.8, gray=0.2, blur=(4.5e-4, 8.9e-3)
)
every = pytest.mark.parametrize("augment", [AutoAugment(), PAPER], ids=["auto", "crop"])


def _images(count: int = 8, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every
def test_the_generator_alone_decides_and_the_global_one_stays(augment: ImageAugmentation) -> None:
    images = _images()
    before, state = images.clone(), torch.get_rng_state()
    first = augment(images, _generator())
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)  # moves the global generator
    assert torch.equal(first, augment(images, _generator()))
    assert not torch.equal(first, augment(images, _generator(1)))
    assert torch.equal(images, before)


@every
def test_bytes_and_shares_are_changed_alike(augment: ImageAugmentation) -> None:
    images = _images()
    changed, shares = augment(images, _generator()), augment(images.float() / 255, _generator())
    assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
    assert shares.dtype == torch.float32
    assert torch.equal(changed.float() / 255, shares)


@every
def test_each_image_has_a_draw_of_its_own(augment: ImageAugmentation) -> None:
    alike = _images(1).expand(12, -1, -1, -1)
    changed = augment(alike, _generator())
    assert len(torch.unique(changed.flatten(1), dim=0)) > 6


@every
def test_no_image_is_no_error(augment: ImageAugmentation) -> None:
    assert augment(_images(0), _generator()).shape == (0, 3, 24, 24)


def test_a_draw_depends_on_the_place_in_the_batch_alone() -> None:
    """Longer batches begin like shorter ones: what else is in them does not matter."""
    images = _images()
    some, all_ = AutoAugment()(images[:3], _generator()), AutoAugment()(images, _generator())
    assert torch.equal(some, all_[:3])


def test_operations_with_a_magnitude_move_by_the_policys_shares() -> None:
    """A flat gray image only changes where black comes in or colors are inverted."""
    gray = torch.full((200, 3, 20, 20), 128, dtype=torch.uint8)
    values = set(AutoAugment()(gray, _generator()).flatten().tolist())
    assert 0 in values  # the ground of what was moved
    assert 127 in values  # inverted or solarized
    assert 128 in values  # sharpness, contrast and color do nothing to it


def test_without_any_change_an_image_is_itself_or_its_mirror() -> None:
    images = _images()[:1].expand(40, -1, -1, -1)
    changed = PLAIN(images, _generator())
    straight = [torch.equal(one, images[0]) for one in changed]
    mirrored = [torch.equal(one, images[0].flip(2)) for one in changed]
    assert all(a != b for a, b in zip(straight, mirrored, strict=True))
    assert 8 < sum(mirrored) < 32


@pytest.mark.parametrize(
    ("jitter", "formula", "low", "high"),
    [
        ((0.4, 0.0, 0.0, 0.0), tv.adjust_brightness, 0.6, 1.4),
        ((0.0, 0.4, 0.0, 0.0), tv.adjust_contrast, 0.6, 1.4),
        ((0.0, 0.0, 0.4, 0.0), tv.adjust_saturation, 0.6, 1.4),
        ((0.0, 0.0, 0.0, 0.1), tv.adjust_hue, -0.1, 0.1),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_colors_change_by_torchvisions_formulas(
    jitter: tuple[float, ...], formula: Callable[[Tensor, float], Tensor], low: float, high: float
) -> None:
    """Every image is what a factor of its own in the range makes of it, up to one of 255."""
    image = _images(1, 8)
    changed = replace(PLAIN, jitter=jitter, jittered=1.0)(
        image.expand(16, -1, -1, -1), _generator()
    )
    factors = torch.linspace(low, high, 401).tolist()
    straight = torch.cat([formula(image.float() / 255, one) for one in factors])
    known = torch.cat([straight, straight.flip(3)])  # half of the images are mirrored
    apart = (changed[:, None].float() - 255 * known).abs().amax(dim=(2, 3, 4))
    assert apart.amin(dim=1).max() < 1.5
    found = torch.tensor(factors).repeat(2)[apart.argmin(dim=1)]
    assert found.min() < low + 0.3 * (high - low)
    assert found.max() > high - 0.3 * (high - low)


def test_a_share_of_the_images_change_their_colors() -> None:
    images = torch.full((300, 3, 4, 4), 100, dtype=torch.uint8)
    changed = replace(PLAIN, jitter=(0.5, 0.0, 0.0, 0.0), jittered=0.8)(images, _generator())
    assert 0.7 < (changed != images).flatten(1).any(dim=1).float().mean() < 0.87


def test_shares_of_the_images_lose_their_colors() -> None:
    changed = replace(PLAIN, gray=0.25)(_images(400, 4), _generator())
    gray = (changed == changed[:, :1]).all(dim=1).flatten(1).all(dim=1)
    assert 0.18 < gray.float().mean() < 0.32


def test_the_blur_is_a_share_of_the_side() -> None:
    """At 32 pixels a deviation of 1/32 is one pixel: weights 0.399, 0.242, 0.054 of a line."""
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[..., 16] = 200
    row = replace(PLAIN, blur=(1 / 32, 1 / 32))(images, _generator())[0, 0, 8]
    at = int(row.argmax())
    assert row[at : at + 3].tolist() == [80, 48, 11]


def test_a_crop_is_scaled_up_again() -> None:
    images = torch.arange(0, 256, 8, dtype=torch.uint8).expand(1, 3, 32, 32).contiguous()
    cut = replace(PLAIN, crop=(0.1, 0.1))(images, _generator())[0, 0].float()
    assert cut.max() - cut.min() < 0.6 * 248
    assert cut.shape == (32, 32)


def test_a_large_blur_fits_a_small_image() -> None:
    assert replace(PLAIN, blur=(0.9, 0.9))(_images(2, 5), _generator()).shape == (2, 3, 5, 5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("crop", (0.5, 0.1), r"crop is the smallest share, above 0, and the largest, got \[0.5"),
        ("crop", (0.0, 1.0), "crop is the smallest share, above 0"),
        ("crop", 0.5, r"crop is 2 shares in \[0, 1\], got 0.5"),
        ("jitter", (0.5, 0.5, 0.5), r"jitter is 4 shares in \[0, 1\], got \(0.5"),
        ("jitter", (0.5, 0.5, 0.5, 0.6), "jitter: hue is turned by 0.5 at most, got 0.6"),
        ("blur", ("a", 0.1), r"blur is 2 shares in \[0, 1\], got \('a'"),
        ("gray", 1.5, r"gray is a share in \[0, 1\], got 1.5"),
        ("jittered", -0.1, r"jittered is a share in \[0, 1\], got -0.1"),
    ],
)
def test_what_makes_no_sense_is_said(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **{field: value})  # type: ignore[arg-type]


def test_another_transform_is_drawn_for_each_image_too() -> None:
    def noisy(image: Tensor) -> Tensor:
        return image + torch.randint(2, image.shape).to(torch.uint8)

    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    one, other = each_apart(noisy, images, _generator())
    assert not torch.equal(one, other)


@every
def test_half_precision_around_it_changes_nothing(augment: ImageAugmentation) -> None:
    plain = augment(_images(), _generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(_images(), _generator()), plain)
