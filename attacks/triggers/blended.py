"""The faint overlay of Blended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import each_generator, round_to_8_bit
from invertune.fields import check_counts, check_shares


@dataclass(frozen=True)
class BlendedTrigger:
    """Mix every image with uniform noise, the same for all (Chen et al., 2017).

    Attributes:
        alpha: Share of the noise, in (0, 1).
        redrawn: Whether every image has noise of its own, as the CLIP codebases have it.
        seed: Fixes the noise, or with each image the one that is drawn for it.
    """

    alpha: float
    redrawn: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_shares(self, "alpha")
        check_counts(self, "seed", least=0)

    def __call__(self, images: Tensor) -> Tensor:
        """Return blended copies of ``images``, (B, 3, H, W) in [0, 1]."""
        shape = images.shape[-3:]
        if self.redrawn:
            own = each_generator(images, self.seed)
            noise = torch.stack([torch.rand(shape, generator=generator) for generator in own])
        else:
            noise = torch.rand(shape, generator=torch.Generator().manual_seed(self.seed))
        return round_to_8_bit((1 - self.alpha) * images + self.alpha * noise.to(images))
