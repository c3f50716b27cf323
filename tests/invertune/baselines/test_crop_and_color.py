from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tv

from invertune.baselines.crop_and_color import CropAndColor

PLAIN = CropAndColor(
    crop=(1.0, 1.0), jitter=(0.0, 0.0, 0.0, 0.0), jittered=0.0, gray=0.0, blur=(1e-4, 1e-4)
)


Noise = Callable[..., Tensor]
Seeded = Callable[..., torch.Generator]


def test_without_any_change_an_image_is_itself_or_its_mirror(noise: Noise, seeded: Seeded) -> None:
    images = noise()[:1].expand(40, -1, -1, -1)
    changed = PLAIN(images, seeded())
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
    noise: Noise,
    seeded: Seeded,
    jitter: tuple[float, ...],
    formula: Callable[[Tensor, float], Tensor],
    low: float,
    high: float,
) -> None:
    """Every image is what a factor of its own in the range makes of it, up to one of 255."""
    image = noise(1, 8)
    changed = replace(PLAIN, jitter=jitter, jittered=1.0)(image.expand(16, -1, -1, -1), seeded())
    factors = torch.linspace(low, high, 401).tolist()
    straight = torch.cat([formula(image.float() / 255, one) for one in factors])
    known = torch.cat([straight, straight.flip(3)])  # half of the images are mirrored
    apart = (changed[:, None].float() - 255 * known).abs().amax(dim=(2, 3, 4))
    assert apart.amin(dim=1).max() < 1.5
    found = torch.tensor(factors).repeat(2)[apart.argmin(dim=1)]
    assert found.min() < low + 0.3 * (high - low)
    assert found.max() > high - 0.3 * (high - low)


def test_a_share_of_the_images_change_their_colors(seeded: Seeded) -> None:
    images = torch.full((300, 3, 4, 4), 100, dtype=torch.uint8)
    changed = replace(PLAIN, jitter=(0.5, 0.0, 0.0, 0.0), jittered=0.8)(images, seeded())
    assert 0.7 < (changed != images).flatten(1).any(dim=1).float().mean() < 0.87


def test_shares_of_the_images_lose_their_colors(noise: Noise, seeded: Seeded) -> None:
    changed = replace(PLAIN, gray=0.25)(noise(400, 4), seeded())
    gray = (changed == changed[:, :1]).all(dim=1).flatten(1).all(dim=1)
    assert 0.18 < gray.float().mean() < 0.32


def test_the_blur_is_a_share_of_the_side(seeded: Seeded) -> None:
    """At 32 pixels a deviation of 1/32 is one pixel: weights 0.399, 0.242, 0.054 of a line."""
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[..., 16] = 200
    row = replace(PLAIN, blur=(1 / 32, 1 / 32))(images, seeded())[0, 0, 8]
    at = int(row.argmax())
    assert row[at : at + 3].tolist() == [80, 48, 11]


def test_a_crop_is_scaled_up_again(seeded: Seeded) -> None:
    images = torch.arange(0, 256, 8, dtype=torch.uint8).expand(1, 3, 32, 32).contiguous()
    cut = replace(PLAIN, crop=(0.1, 0.1))(images, seeded())[0, 0].float()
    assert cut.max() - cut.min() < 0.6 * 248
    assert cut.shape == (32, 32)


def test_a_large_blur_fits_a_small_image(noise: Noise, seeded: Seeded) -> None:
    assert replace(PLAIN, blur=(0.9, 0.9))(noise(2, 5), seeded()).shape == (2, 3, 5, 5)


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
