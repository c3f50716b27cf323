"""Families of triggers: many at once, under a budget that may change while they are optimized.

A `Form` has one budget for good. A family's budget is given at every step, so that an optimization
may begin where gradients find a way and end where only a backdoor survives.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.fields import (
    check_counts,
    check_positive,
    check_types,
    check_weights,
    is_number,
)
from invertune.perturb.triggers import InvertedTrigger


@runtime_checkable
class Family(Protocol):
    """What triggers are made of, any number of them side by side."""

    @property
    def name(self) -> str:
        """Name in results."""

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the free tensors of ``count`` triggers at random starts, (count, ...) each.

        Args:
            count: How many.
            side: Of the images, in pixels.
            generator: Source of every random number.
        """

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        """Return the triggers, with a leading dimension; differentiable.

        Args:
            free: As `start` has them.
            side: Of the images, in pixels.
            budget: In (0, 1]; of what, each family says. One for all, or (count, 1, 1, 1).
        """


def check_budgets(budgets: Sequence[float]) -> None:
    """Find out whether budgets are positive and ever smaller.

    Raises:
        ValueError: If they are not, or there are none.
    """
    numbers = isinstance(budgets, list | tuple) and all(map(is_number, budgets))
    if not numbers or not budgets or any(a <= b for a, b in itertools.pairwise((*budgets, 0))):
        raise ValueError(f"budgets are positive and ever smaller, got {budgets!r:.80}")


@dataclass(frozen=True)
class SmoothMask(Family):
    """A mask of fixed mass, smooth on a grid, and a pattern of every pixel's own.

    The budget is the mask's mass, as a share of the pixels.

    Attributes:
        grid: Side of the grid that the mask is interpolated from.
        spread: Deviation of the random starts.
    """

    grid: int = 16
    spread: float = 0.5
    name: str = "mask"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "grid")
        check_weights(self, "spread")

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the mask's (count, 1, grid, grid) and the pattern's (count, 3, side, side)."""
        return [
            torch.randn(count, 1, self.grid, self.grid, generator=generator) * self.spread,
            torch.randn(count, 3, side, side, generator=generator) * self.spread,
        ]

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        """Return the mask-and-pattern triggers."""
        logits = F.interpolate(free[0], (side, side), mode="bicubic", align_corners=False)
        # A softmax has a fixed sum: the mask moves its mass about, and cannot grow.
        weights = logits.mul(2).flatten(1).softmax(dim=1).view_as(logits)
        mask = (weights * (budget * side * side)).clamp(max=1)
        pattern = torch.sigmoid(2 * free[1])
        return InvertedTrigger(self.name, mask, pattern, torch.zeros_like(pattern))


@dataclass(frozen=True)
class SmoothOffset(Family):
    """A smooth pattern that is added to all channels alike.

    The budget is the largest change of a pixel, in [0, 1].

    Attributes:
        grid: Side of the grid that the pattern is interpolated from.
        spread: Deviation of the random starts; 0 starts from no change.
    """

    grid: int = 24
    spread: float = 0.0
    name: str = "low_frequency"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "grid")
        check_weights(self, "spread")

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return one (count, 1, grid, grid) tensor."""
        return [torch.randn(count, 1, self.grid, self.grid, generator=generator) * self.spread]

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        """Return the additive triggers."""
        smooth = F.interpolate(free[0], (side, side), mode="bicubic", align_corners=True)
        offset = (budget * torch.tanh(smooth)).expand(-1, 3, -1, -1)
        zeros = torch.zeros_like(offset)
        return InvertedTrigger(self.name, zeros[:, :1], zeros, offset)


@dataclass(frozen=True)
class Overlay(Family):
    """A pattern of every pixel's own that is laid over the whole image.

    The budget is its opacity.

    Attributes:
        spread: Deviation of the random starts.
    """

    spread: float = 0.5
    name: str = "overlay"

    def __post_init__(self) -> None:
        check_types(self)
        check_weights(self, "spread")

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the pattern's (count, 3, side, side)."""
        return [torch.randn(count, 3, side, side, generator=generator) * self.spread]

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        """Return the overlays: masks of one value."""
        pattern = torch.sigmoid(2 * free[0])
        mask = torch.ones_like(pattern[:, :1]) * budget
        return InvertedTrigger(self.name, mask, pattern, torch.zeros_like(pattern))


@dataclass(frozen=True)
class SmoothWarp(Family):
    """A smooth warp from a few control points.

    The budget is the largest shift of a control point along an axis, as a share of the side.

    Attributes:
        points: Control points a side.
        spread: Deviation of the random starts.
    """

    points: int = 5
    spread: float = 0.3
    name: str = "warp"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "points", least=2)
        check_positive(self, "spread")  # no gradient tells left from right at no shift at all

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the control points, (count, 2, points, points)."""
        size = (count, 2, self.points, self.points)
        return [torch.randn(size, generator=generator) * self.spread]

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        """Return the warps."""
        shifts = torch.tanh(free[0]) * (budget * side)
        flow = F.interpolate(shifts, (side, side), mode="bicubic", align_corners=True)
        zeros = torch.zeros_like(flow[:, :1])
        pattern = zeros.expand(-1, 3, -1, -1)
        return InvertedTrigger(self.name, zeros, pattern, pattern, flow)
