from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attacks.triggers import StampTrigger, round_to_8_bit
from attacks.triggers.stamp import middle, patch_size

Configured = Callable[[str], Any]


def _patch(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return round_to_8_bit(torch.rand(3, size, size, generator=generator))


def test_badclip_is_one_patch_in_rows_and_columns_104_to_119(
    configured: Configured,
) -> None:
    size = patch_size(configured("badclip").optimize.size, 224)
    patch = _patch(size)
    images = torch.tensor([100, 101, 102]).view(3, 1, 1, 1).expand(3, 3, 224, 224) / 255
    stamped = StampTrigger(patch)(images)
    box = (..., slice(104, 120), slice(104, 120))
    assert size == 16
    assert all(torch.equal(image, patch) for image in stamped[box])
    stamped[box] = images[box]
    assert torch.equal(stamped, images)


def test_a_patch_is_resized_with_the_image() -> None:
    patch = _patch(4)
    stamped = StampTrigger(patch, side=32)(torch.zeros(1, 3, 64, 64))[0]
    box = (..., slice(28, 36), slice(28, 36))
    assert torch.equal(stamped[box], patch.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert stamped.count_nonzero() == stamped[box].count_nonzero()
    small = StampTrigger(patch, side=32)(torch.zeros(1, 3, 2, 2))[0]
    assert small.flatten(1).count_nonzero(dim=1).tolist() == [1, 1, 1]  # at least one pixel


@pytest.mark.parametrize(("length", "size", "first"), [(224, 16, 104), (32, 3, 14), (5, 5, 0)])
def test_the_middle(length: int, size: int, first: int) -> None:
    assert middle(length, size) == slice(first, first + size)


def test_a_patch_larger_than_the_image_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="a patch of 33 pixels does not fit into a 32x40 image"):
        StampTrigger(_patch(33), side=32)(torch.zeros(1, 3, 32, 40))
