"""A given patch, such as BadCLIP's optimized one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from attacks.triggers.base import REFERENCE_SIDE, round_to_8_bit, scaled
from invertune.fields import check_counts, check_tensor


@dataclass(frozen=True, eq=False)
class StampTrigger:
    """Put a given opaque patch in the middle of every image (BadCLIP, Liang et al., 2024).

    Attributes:
        patch: (3, S, S) in [0, 1].
        side: Side of the images that it was made for, in pixels; others get it resized.
    """

    patch: Tensor = dataclasses.field(repr=False)
    side: int = REFERENCE_SIDE

    def __post_init__(self) -> None:
        check_tensor(self, "patch", "(3, S, S)", 3, None, None)
        check_counts(self, "side")

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If the patch does not fit into the image.
        """
        height, width = images.shape[-2:]
        patch, size = self.patch, self.patch.shape[-1]
        if min(height, width) != self.side:
            size = max(1, round(size * min(height, width) / self.side))
            # Nearest: smoothing would leave little of a noisy patch.
            patch = F.interpolate(patch[None], (size, size), mode="nearest")[0]
        if size > min(height, width):
            raise ValueError(f"a patch of {size} pixels does not fit into a {height}x{width} image")
        rows, columns = middle(height, size), middle(width, size)
        stamped = images.clone()
        stamped[..., rows, columns] = patch.to(images)
        return round_to_8_bit(stamped)


def middle(length: int, size: int) -> slice:
    """Return the ``size`` middle pixels of ``length``."""
    first = (length - size) // 2
    return slice(first, first + size)


def patch_size(size: int, side: int) -> int:
    """Return the side of a patch, given at 224 pixels, in images of ``side`` pixels."""
    return max(1, scaled(size, side))
