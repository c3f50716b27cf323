"""The patch of BadNets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import round_to_8_bit

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


@dataclass(frozen=True)
class PatchTrigger:
    """Overwrite a square in a corner with the same noise (BadNets, Gu et al., 2017).

    The noise is the CLIP codebases', Gaussian of unit variance around mid-gray, clipped instead of
    wrapped. They redraw it for every image and place it at random; here one patch stands in one
    place, as BadNets has it and as InverTune's checkpoints are named.

    Attributes:
        size: Side of the square, in pixels.
        corner: One of `CORNERS`.
        margin: Distance to both edges, in pixels.
        seed: Fixes the noise, so poisoning and evaluation stamp the same patch.
    """

    size: int
    corner: str = "bottom_right"
    margin: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise ValueError(f"corner is one of {', '.join(CORNERS)}, got {self.corner!r}")
        if self.size < 1 or self.margin < 0:
            raise ValueError(f"size is at least 1 and margin at least 0 pixels, got {self}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If the square does not fit into the image.
        """
        height, width = images.shape[-2:]
        if self.size + self.margin > min(height, width):
            raise ValueError(f"{self} does not fit into a {height}x{width} image")
        top = self.margin if "top" in self.corner else height - self.margin - self.size
        left = self.margin if "left" in self.corner else width - self.margin - self.size
        # Not the global generator: its state depends on what ran before.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(3, self.size, self.size, generator=generator)
        patch = (0.5 + noise).clamp(0, 1)
        stamped = images.clone()
        stamped[..., top : top + self.size, left : left + self.size] = patch.to(images)
        return round_to_8_bit(stamped)
