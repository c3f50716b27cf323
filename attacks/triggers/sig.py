"""The sinusoidal bands of SIG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import round_to_8_bit


@dataclass(frozen=True)
class SinusoidalTrigger:
    """Add v(i, j) = delta sin(2 pi f j / W) to every row and channel (SIG, Barni et al., 2019).

    Attributes:
        delta: Amplitude, in [0, 1] of the pixel range (BackdoorBench has 40/255).
        frequency: Periods across the image.
    """

    delta: float
    frequency: float

    def __post_init__(self) -> None:
        if not 0 < self.delta <= 1 or self.frequency <= 0:
            raise ValueError(f"delta is in (0, 1] and frequency positive, got {self}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return striped copies of ``images``, (B, 3, H, W) in [0, 1]."""
        width = images.shape[-1]
        columns = torch.arange(width, device=images.device, dtype=images.dtype)
        wave = self.delta * torch.sin(2 * math.pi * self.frequency * columns / width)
        return round_to_8_bit(images + wave)
