from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attacks.triggers import BlendedTrigger

Configured = Callable[[str], Any]


@pytest.mark.parametrize("name", ["blended", "blended_cleanclip"])
def test_blended_mixes_a_fifth_of_noise(configured: Configured, name: str) -> None:
    trigger = configured(name).trigger
    black, white = trigger(torch.zeros(1, 3, 224, 224)), trigger(torch.ones(1, 3, 224, 224))
    assert (black.min(), black.max()) == (0, pytest.approx(0.2))
    assert (white.min(), white.max()) == (pytest.approx(0.8), 1)
    gray = trigger(torch.full((1, 3, 224, 224), 0.5))
    assert gray.mean() == pytest.approx(0.5, abs=0.001)
    # Uniform noise has a deviation of 1 / sqrt(12).
    assert gray.std() == pytest.approx(0.2 / 12**0.5, rel=0.01)


def test_blended_has_one_noise_for_all_images_unless_redrawn(
    configured: Configured,
) -> None:
    levels = torch.tensor([0.2, 0.4, 0.6]).view(-1, 1, 1, 1)
    images = levels.expand(3, 3, 224, 224)

    def noise(name: str) -> torch.Tensor:
        return (configured(name).trigger(images) - 0.8 * images) / 0.2

    fixed, redrawn = noise("blended"), noise("blended_cleanclip")
    assert (fixed - fixed[:1]).abs().max() < 0.02  # a level of 255 is 0.02 of the noise's range
    assert (redrawn[0] - redrawn[1]).abs().mean() > 0.3  # of two uniform numbers: 1/3
    assert (redrawn[1] - redrawn[2]).abs().mean() > 0.3


def test_the_seed_decides_the_noise() -> None:
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for redrawn in (False, True):
        first = BlendedTrigger(0.2, redrawn, seed=0)(images)
        assert not torch.equal(first, BlendedTrigger(0.2, redrawn, seed=1)(images))


@pytest.mark.parametrize("alpha", [0, 1.0, -0.2])
def test_a_share_is_a_share(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha is a share in \(0, 1\), got {alpha}"):
        BlendedTrigger(alpha)
