"""A CLIP whose features can be read off by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.clip.models import CLIP


class ColorCLIP(nn.Module):
    """An image's feature is its upper-left pixel; a text's is looked up by its last word."""

    tokenizer = open_clip.SimpleTokenizer()

    def __init__(self, words: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self.name = "colors"
        self.words = words
        self.device = torch.device("cpu")
        self.batches: list[int] = []

    def encode_image(self, images: Tensor) -> Tensor:
        assert images.is_floating_point()
        assert images.max() <= 1
        self.batches.append(len(images))
        return F.normalize(images[:, :, 0, 0], dim=-1)

    def similarities(self, features: Tensor, classifier: Tensor) -> Tensor:
        return features @ classifier

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(torch.tensor([self.words[text.split()[-1]] for text in texts]), dim=-1)


@pytest.fixture
def color_clip() -> Callable[[Mapping[str, Sequence[float]]], CLIP]:
    return lambda words: cast(CLIP, ColorCLIP(words))


@pytest.fixture
def pixels() -> Callable[[Sequence[Sequence[int]]], Tensor]:
    """Make (N, 3, 2, 2) uint8 images of one color each."""

    def make(colors: Sequence[Sequence[int]]) -> Tensor:
        flat = torch.tensor(colors, dtype=torch.uint8).view(-1, 3, 1, 1)
        return flat.expand(-1, 3, 2, 2).clone()

    return make
