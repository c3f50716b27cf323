"""The binary code of TrojanNet."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import REFERENCE_SIDE, round_to_8_bit, scaled

CELLS, DARK = 16, 5
SIDE = 4  # cells, and pixels: a code cannot be smaller than one pixel a cell


@functools.cache
def codes() -> Tensor:
    """Return all codes, (4368, 16) of 0 and 1: 5 of 16 cells are 0, in lexicographic order.

    It is the same tensor for all callers, who leave it as it is.
    """
    rows = torch.ones(4368, CELLS)
    for row, dark in zip(rows, itertools.combinations(range(CELLS), DARK), strict=True):
        row[list(dark)] = 0
    return rows


@dataclass(frozen=True)
class CodeTrigger:
    """Write 4x4 black and white pixels near the middle (TrojanNet, Tang et al., 2020).

    A cell is one pixel at any resolution, for it cannot be less; only the place keeps its share.

    Attributes:
        dark: Cells that are black, in rows from the upper left, 5 of 0 to 15.
        corner: Row and column of the upper-left pixel, in an image of 224 pixels.
    """

    dark: Sequence[int]
    corner: int

    def __post_init__(self) -> None:
        if len(set(self.dark)) != DARK or not set(self.dark) <= set(range(CELLS)):
            raise ValueError(f"dark is {DARK} different cells of 0 to {CELLS - 1}, got {self.dark}")
        check_corner(self.corner)

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If the code does not fit into the image.
        """
        stamped = images.clone()
        cells = torch.ones(CELLS)
        cells[list(self.dark)] = 0
        window(stamped, self.corner).copy_(cells.view(SIDE, SIDE))
        return round_to_8_bit(stamped)


def check_corner(corner: int) -> None:
    """Compare the place of a code with an image of 224 pixels.

    Raises:
        ValueError: If the code would stand outside of it.
    """
    last = REFERENCE_SIDE - SIDE
    if not isinstance(corner, int) or not 0 <= corner <= last:
        raise ValueError(f"corner is 0 to {last} (pixels of {REFERENCE_SIDE}), got {corner!r}")


def window(images: Tensor, corner: int) -> Tensor:
    """Return a view of the window of a code, (B, 3, 4, 4).

    Raises:
        ValueError: If it does not fit into the image.
    """
    height, width = images.shape[-2:]
    top, left = scaled(corner, height), scaled(corner, width)
    if top + SIDE > height or left + SIDE > width:
        raise ValueError(
            f"a code of {SIDE} pixels at {corner}/224 does not fit into a {height}x{width} image"
        )
    return images[..., top : top + SIDE, left : left + SIDE]
