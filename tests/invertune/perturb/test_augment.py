from __future__ import annotations

import torch
from torch import Tensor

from invertune.perturb.augment import Augmentation

NEUTRAL = {"turn": 0.0, "scale": 0.0, "shift": 0.0, "brightness": 0.0, "tint": 0.0, "flip": False}


def _images() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmented_images_are_images() -> None:
    images = _images()
    before = images.clone()
    changed = Augmentation()(images, _generator())
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, before)
    assert all(not torch.equal(one, other) for one, other in zip(changed, images, strict=True))


def test_the_generator_alone_decides() -> None:
    first = Augmentation()(_images(), _generator())
    torch.rand(10)
    assert torch.equal(first, Augmentation()(_images(), _generator()))
    assert not torch.equal(first, Augmentation()(_images(), _generator(1)))


def test_without_any_change_the_images_stay() -> None:
    same = Augmentation(**NEUTRAL)(_images(), _generator())
    assert torch.allclose(same, _images(), atol=1e-5)


def test_flips_mirror_about_half() -> None:
    images = _images()[:1].expand(40, -1, -1, -1)
    flipped = Augmentation(**{**NEUTRAL, "flip": True})(images, _generator())
    straight = [torch.allclose(one, images[0], atol=1e-5) for one in flipped]
    mirrored = [torch.allclose(one, images[0].flip(2), atol=1e-5) for one in flipped]
    assert all(a != b for a, b in zip(straight, mirrored, strict=True))
    assert 8 < sum(mirrored) < 32


def test_a_tint_is_one_value_per_channel() -> None:
    gray = torch.full((8, 3, 16, 16), 0.5)
    tinted = Augmentation(**{**NEUTRAL, "tint": 0.1})(gray, _generator())
    assert (tinted == tinted[..., :1, :1]).all()
    assert (tinted - 0.5).abs().max() <= 0.1 + 1e-6
    assert tinted.std() > 0.01
