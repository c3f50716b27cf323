"""Augmentation that makes much of a few clean images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.fields import check_shares, check_types, check_weights


@dataclass(frozen=True)
class Augmentation:
    """Turn, scale, shift, flip, brighten and tint a batch at random.

    Attributes:
        turn: Largest rotation, in degrees, either way.
        scale: Largest change of size, as a share.
        shift: Largest displacement, as a share of half the image.
        brightness: Largest change of brightness, as a share.
        tint: Largest change of each channel, in [0, 1].
        flip: Mirror half of the images.
        shuffle: Permute the color channels of half of the images.
        mix: Share of the images that are blended with another of the batch.
    """

    turn: float = 15.0
    scale: float = 0.15
    shift: float = 0.15
    brightness: float = 0.15
    tint: float = 0.1
    flip: bool = True
    shuffle: bool = False
    mix: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        check_weights(self, "turn", "shift")
        check_shares(self, "scale", zero=True)
        check_shares(self, "brightness", "tint", "mix", zero=True, one=True)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed copies of ``images``, (B, 3, H, W) in [0, 1]."""
        count = len(images)

        def spread(*size: int) -> Tensor:
            return 2 * torch.rand(count, *size, generator=generator) - 1

        angle = torch.deg2rad(self.turn * spread())
        zoom = 1 + self.scale * spread()
        mirror = torch.where(spread() < 0, -1.0, 1.0) if self.flip else torch.ones(count)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        rows = torch.stack([mirror * cos, -mirror * sin, sin, cos], dim=1).view(count, 2, 2)
        # All of it is one sampling: turned, scaled and shifted one after the other, images would
        # blur.
        affine = torch.cat([rows, self.shift * spread(2, 1)], dim=2).to(images)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        # Reflected: black corners would be something that no clean image has.
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        if self.shuffle:
            # A permutation of channels gives colors that no clean image has, and leaves shapes
            # alone.
            order = torch.rand(count, 3, generator=generator).argsort(dim=1)
            order[torch.rand(count, generator=generator) < 0.5] = torch.arange(3)
            moved = moved.gather(1, order.to(images.device)[..., None, None].expand_as(moved))
        if self.mix:
            other = moved[torch.randperm(count, generator=generator)]
            # At most half of another image, so that the first one stays what is seen.
            share = torch.rand(count, 1, 1, 1, generator=generator) / 2
            share *= torch.rand(count, 1, 1, 1, generator=generator) < self.mix
            moved = torch.lerp(moved, other, share.to(images))
        factor = 1 + self.brightness * spread(1, 1, 1)
        return (moved * factor.to(images) + (self.tint * spread(3, 1, 1)).to(images)).clamp(0, 1)
