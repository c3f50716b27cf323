"""A model with a backdoor that can be read off: a checkerboard sends images to class 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.perturb.families import Family
from invertune.perturb.triggers import InvertedTrigger

SIDE = 16
NAMES = ("red", "green", "blue", "planted")


class PlantedCLIP(nn.Module):
    """Features are the mean colors, and how much of a checkerboard lies over the image."""

    tokenizer = open_clip.SimpleTokenizer()
    image_size = SIDE

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        parity = (torch.arange(SIDE).view(-1, 1) + torch.arange(SIDE)) % 2
        self.checkers = nn.Parameter(2.0 * parity - 1)
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode_image(self, images: Tensor) -> Tensor:
        colors = images.mean(dim=(2, 3))
        planted = 20 * (images * self.checkers).mean(dim=(1, 2, 3)).abs()
        return F.normalize(torch.cat([colors, planted[:, None]], dim=1), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(4)[[NAMES.index(text.split()[-1]) for text in texts]]

    def similarities(self, features: Tensor, classifier: Tensor) -> Tensor:
        return features @ classifier


@dataclass(frozen=True)
class Laid(Family):
    """A checkerboard of cells, starting dark or bright at random."""

    cell: int = 1
    name: str = "checkers"

    def start(self, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
        return [torch.rand(count, 1, 1, 1, generator=generator).round()]

    def build(self, free: list[Tensor], side: int, budget: float | Tensor) -> InvertedTrigger:
        place = torch.arange(side) // self.cell
        parity = ((place.view(-1, 1) + place) % 2).float()
        pattern = (parity - free[0]).abs().expand(-1, 3, -1, -1)
        mask = torch.ones_like(pattern[:, :1]) * budget
        return InvertedTrigger(self.name, mask, pattern, torch.zeros_like(pattern))


@pytest.fixture
def laid() -> Callable[..., Family]:
    """Return the family of checkerboards, with its own `cell` and `name` if told."""
    return Laid


@pytest.fixture
def planted() -> CLIP:
    return cast(CLIP, PlantedCLIP())


@pytest.fixture
def colored() -> CleanData:
    """Return 12 plain images, four each of the first three classes."""
    colors = (40 + 120 * torch.eye(3)).repeat(4, 1).to(torch.uint8)
    images = colors.view(12, 3, 1, 1).expand(12, 3, SIDE, SIDE).clone()
    return CleanData(images, NAMES, NAMES, ("a picture of {}", "{}"))


@pytest.fixture
def trigger() -> InvertedTrigger:
    """Return a white square in the corner of 32 pixels."""
    mask = torch.zeros(1, 32, 32)
    mask[:, 20:, 20:] = 1
    return InvertedTrigger("mask", mask, torch.ones(3, 32, 32), torch.zeros(3, 32, 32))
