"""Parametrizations of universal perturbations and inverted triggers.

Steps 1 and 2 of InverTune optimize the same kinds of things: a form says which tensors are free
and how they become a change of the image that keeps to its budget by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.fields import check_counts, check_positive, check_shares, check_types
from invertune.perturb.triggers import InvertedTrigger

_MEAN, _STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


@runtime_checkable
class Form(Protocol):
    """What a perturbation is made of; inherit to get a ``project`` that does nothing."""

    @property
    def name(self) -> str:
        """Name in results."""

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the free tensors at a random start, for images of ``side`` pixels."""

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the perturbation that the free tensors stand for; differentiable."""

    def project(self, free: list[Tensor]) -> None:
        """Bring the free tensors back into their ranges, in place, after a step."""
        del free


@dataclass(frozen=True)
class Pixels(Form):
    """Add a pattern of at most ``budget``, in [0, 1], to every pixel and channel."""

    budget: float
    name: str = "pixels"

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "budget", one=True)

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return one (3, side, side) tensor."""
        # Small, so that tanh starts in its steep part.
        return [torch.randn(3, side, side, generator=generator) * 0.3]

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the additive trigger."""
        return _additive(self.name, self.budget * torch.tanh(free[0]))


@dataclass(frozen=True)
class LowFrequency(Form):
    """Add one smooth pattern to all channels, at most ``budget``, in [0, 1].

    Attributes:
        budget: Largest change of a pixel.
        grid: Side of the grid that the pattern is interpolated from.
    """

    budget: float
    grid: int
    name: str = "low_frequency"

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "budget", one=True)
        check_counts(self, "grid")

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return one (1, grid, grid) tensor."""
        return [torch.randn(1, self.grid, self.grid, generator=generator) * 0.3]

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the additive trigger."""
        size = (side, side)
        # Bicubic overshoots its grid a little; tanh comes after it, so the budget still holds.
        smooth = F.interpolate(free[0][None], size, mode="bicubic", align_corners=False)
        return _additive(self.name, self.budget * torch.tanh(smooth[0]).expand(3, -1, -1))


def _additive(name: str, offset: Tensor) -> InvertedTrigger:
    zeros = torch.zeros_like(offset)
    return InvertedTrigger(name, zeros[:1], zeros, offset)


@dataclass(frozen=True)
class MaskedPattern(Form):
    """Put a pattern where a mask of fixed mass lies: m = min(1, mass * softmax(w)).

    Attributes:
        mass: Sum of the mask, as a share of the pixels.
        temperature: Larger ones spread the mask more slowly.
    """

    mass: float
    temperature: float = 1.0
    name: str = "mask"

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "mass", one=True)
        check_positive(self, "temperature")

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the mask's (1, side, side) and the pattern's (3, side, side) logits."""
        return [
            torch.randn(1, side, side, generator=generator) * 0.1,
            torch.randn(3, side, side, generator=generator),
        ]

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the mask-and-pattern trigger."""
        # A softmax has a fixed sum: the mask can only move its mass about, never grow to cover the
        # image, and needs no weight of L_mask to be tuned.
        weights = torch.softmax(free[0].flatten() / self.temperature, dim=0).view_as(free[0])
        mask = (self.mass * side * side * weights).clamp(max=1)
        pattern = torch.sigmoid(free[1])
        return InvertedTrigger(self.name, mask, pattern, torch.zeros_like(pattern))


@dataclass(frozen=True)
class FixedPatch(Form):
    """Overwrite a square in a fixed place, as AdvCLIP's perturbation does (Zhou et al., 2023).

    Attributes:
        share: Area of the square, as a share of the image's; AdvCLIP has 0.03.
        corner: Row and column of its upper-left corner, as a share of the side; InverTune's code
            has 172/224.
    """

    share: float
    corner: float
    name: str = "patch"

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "share", one=True)
        check_shares(self, "corner", zero=True)

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the pattern's logits, (3, side, side)."""
        return [torch.randn(3, side, side, generator=generator)]

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the patch.

        Raises:
            ValueError: If the square does not fit into the image.
        """
        size, first = int((self.share * side * side) ** 0.5), round(self.corner * side)
        if first + size > side:
            raise ValueError(f"{self} does not fit into an image of {side} pixels")
        pattern = torch.sigmoid(free[0])
        mask = torch.zeros_like(pattern[:1])
        mask[:, first : first + size, first : first + size] = 1
        return InvertedTrigger(self.name, mask, pattern, torch.zeros_like(pattern))


@dataclass(frozen=True)
class FreeMask(Form):
    """A mask and a pattern without a budget, kept small by L_mask alone: InverTune's own (m, t).

    As in its code the mask starts at 1 everywhere and is clamped to [0, 1]; the pattern is
    optimized in normalized units and clamped to the code's one range for all channels.

    Attributes:
        channels: Of the mask: 3 in the code, 1 in the usual reading of the paper.
    """

    channels: int
    name: str = "mask"

    def __post_init__(self) -> None:
        check_types(self)
        if self.channels not in (1, 3):
            raise ValueError(f"channels is 1 or 3, got {self.channels}")

    def start(self, side: int, generator: torch.Generator) -> list[Tensor]:
        """Return the mask, (channels, side, side), and the normalized pattern, (3, side, side)."""
        return [
            torch.ones(self.channels, side, side),
            torch.rand(3, side, side, generator=generator),
        ]

    def build(self, free: list[Tensor], side: int) -> InvertedTrigger:
        """Return the mask-and-pattern trigger, its pattern in [0, 1]."""
        mean, std = (torch.tensor(v).view(3, 1, 1).to(free[1]) for v in (_MEAN, _STD))
        pattern = (free[1] * std + mean).clamp(0, 1)
        return InvertedTrigger(self.name, free[0], pattern, torch.zeros_like(pattern))

    @torch.no_grad()
    def project(self, free: list[Tensor]) -> None:
        """Clamp mask and pattern."""
        free[0].clamp_(0, 1)
        # In normalized units the blackest that a channel has, red, and the whitest, blue.
        free[1].clamp_(-1.7922, 2.1461)
