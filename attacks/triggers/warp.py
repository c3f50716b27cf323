"""The warp of WaNet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.triggers.base import REFERENCE_SIDE, round_to_8_bit
from invertune.fields import check_positive, check_tensor


@dataclass(frozen=True, eq=False)
class WarpTrigger:
    """Warp every image by the same field (WaNet, Nguyen and Tran, 2021).

    A few control points, uniform in [-1, 1] and divided by their mean size, are interpolated to
    one shift for every pixel. Few points make the paper's smooth, elastic warp; as many as there
    are pixels make the CLIP codebases' jitter, in which no pixel moves with its neighbors. WaNet
    was made for attackers who control the training, and then adds images under other warps with
    their true labels ("noise mode"); here, as in the CLIP codebases, data is all that is poisoned.

    Attributes:
        control: (2, K, K) shifts of the control points along x and y, of mean size 1.
        strength: Mean shift of the control points along an axis, in half pixels of an image of
            224; other images keep its share, and between few points pixels shift less, about two
            thirds as far. WaNet's 0.5 at 32 pixels is 3.5 here; the CLIP codebases have 1.
    """

    control: Tensor = dataclasses.field(repr=False)
    strength: float

    def __post_init__(self) -> None:
        check_tensor(self, "control", "(2, K, K)", 2, None, None)
        check_positive(self, "strength")

    @classmethod
    def draw(cls, points: int, strength: float, seed: int) -> WarpTrigger:
        """Return a trigger of ``points`` x ``points`` control points that the seed decides.

        Raises:
            ValueError: If there are fewer than 2, or the strength is not positive.
        """
        if not isinstance(points, int) or points < 2:
            raise ValueError(f"points is at least 2 control points a side, got {points!r}")
        if not isinstance(seed, int):
            raise ValueError(f"seed is an integer, got {seed!r}")
        generator = torch.Generator().manual_seed(seed)
        control = torch.rand(2, points, points, generator=generator) * 2 - 1
        # Normalized, so that the strength alone says how far pixels move, however many points there
        # are.
        return cls(control / control.abs().mean(), strength)

    def field(self, height: int, width: int) -> Tensor:
        """Return where each pixel comes from, (H, W, 2) in x and y of [-1, 1]."""
        size = (height, width)
        flow = F.interpolate(self.control[None], size, mode="bicubic", align_corners=True)[0]
        rows = torch.linspace(-1, 1, height).view(-1, 1).expand(size)
        columns = torch.linspace(-1, 1, width).expand(size)
        identity = torch.stack([columns, rows], dim=-1)
        shift = self.strength / REFERENCE_SIDE * flow.permute(1, 2, 0)
        # Pixels from outside would be black, a mark at the border that has nothing to do with the
        # warp.
        return (identity + shift).clamp(-1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Return warped copies of ``images``, (B, 3, H, W) in [0, 1]."""
        grid = self.field(*images.shape[-2:]).to(images)
        grids = grid.expand(len(images), -1, -1, -1)
        return round_to_8_bit(F.grid_sample(images, grids, mode="bilinear", align_corners=True))
