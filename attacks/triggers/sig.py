"""The sinusoidal bands of SIG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import round_to_8_bit
from invertune.fields import check_positive, check_shares


@dataclass(frozen=True)
class SinusoidalTrigger:
    """Add v(i, j) = delta sin(2 pi f j / W) to every row and channel (SIG, Barni et al., 2019).

    Attributes:
        delta: Amplitude, in [0, 1] of the pixel range: 60/255 in the CLIP codebases, 40/255 in
            BackdoorBench.
        frequency: Periods across the image.
        alpha: Share of the bands where they are mixed in, (1 - alpha) x + alpha v, as CleanCLIP's
            code has it, which also dims the image; None adds them, as BadCLIP's has it.
    """

    delta: float
    frequency: float
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_shares(self, "delta", one=True)
        check_positive(self, "frequency")
        if self.alpha is not None:
            check_shares(self, "alpha")

    def __call__(self, images: Tensor) -> Tensor:
        """Return striped copies of ``images``, (B, 3, H, W) in [0, 1]."""
        width = images.shape[-1]
        columns = torch.arange(width, device=images.device, dtype=images.dtype)
        wave = self.delta * torch.sin(2 * math.pi * self.frequency * columns / width)
        if self.alpha is not None:
            return round_to_8_bit((1 - self.alpha) * images + self.alpha * wave)
        return round_to_8_bit(images + wave)
