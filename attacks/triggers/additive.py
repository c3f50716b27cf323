"""A given pattern that is added, such as BadCLIP's learned noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from attacks.triggers.base import round_to_8_bit
from invertune.fields import check_tensor


@dataclass(frozen=True, eq=False)
class AdditiveTrigger:
    """Add the same faint pattern to every image (BadCLIP, Bai et al., 2024).

    Attributes:
        delta: (3, S, S) in units of [0, 1]; images of another size get it interpolated.
    """

    delta: Tensor = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        check_tensor(self, "delta", "(3, S, S)", 3, None, None)

    def __call__(self, images: Tensor) -> Tensor:
        """Return copies of ``images``, (B, 3, H, W) in [0, 1], with the pattern."""
        delta, size = self.delta, images.shape[-2:]
        if delta.shape[-2:] != size:
            delta = F.interpolate(delta[None], size, mode="bilinear", align_corners=False)[0]
        return round_to_8_bit(images + delta.to(images))
