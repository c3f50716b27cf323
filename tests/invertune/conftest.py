"""A model with a backdoor that can be read off: a checkerboard sends images to class 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.perturb.triggers import InvertedTrigger

SIDE = 16
NAMES = ("red", "green", "blue", "planted")


class PlantedCLIP(nn.Module):
    """Features are the mean colors, and how much of a checkerboard lies over the image."""

    tokenizer = open_clip.SimpleTokenizer()

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
