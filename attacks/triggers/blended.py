"""The faint overlay of Blended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import round_to_8_bit


@dataclass(frozen=True)
class BlendedTrigger:
    """Mix every image with the same uniform noise (Chen et al., 2017).

    Attributes:
        alpha: Share of the noise, in (0, 1).
        seed: Fixes the noise, which other codebases redraw for every image.
    """

    alpha: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is a share in (0, 1), got {self.alpha}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return blended copies of ``images``, (B, 3, H, W) in [0, 1]."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.rand(images.shape[-3:], generator=generator).to(images)
        return round_to_8_bit((1 - self.alpha) * images + self.alpha * noise)
