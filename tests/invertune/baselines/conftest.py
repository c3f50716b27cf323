"""What tests of repairs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.perturb.triggers import InvertedTrigger


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count what goes through any model from now on, by the names of `Work`."""
    seen = dict.fromkeys(("forward", "back", "trained", "texts", "texts_trained"), 0)
    images, tokens, texts = CLIP.encode_image, CLIP.encode_tokens, CLIP.encode_text

    def count(method: Callable[..., Tensor], kinds: Sequence[str]) -> Callable[..., Tensor]:
        def counting(model: CLIP, of: Any) -> Tensor:
            learns = any(weight.requires_grad for weight in model.parameters())
            forward, back, trained = kinds
            seen[(trained if learns else back) if torch.is_grad_enabled() else forward] += len(of)
            return method(model, of)

        return counting

    monkeypatch.setattr(CLIP, "encode_image", count(images, ("forward", "back", "trained")))
    for name, method in (("encode_tokens", tokens), ("encode_text", texts)):
        monkeypatch.setattr(CLIP, name, count(method, ("texts", "texts", "texts_trained")))
    return seen


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Return random images, (count, 3, side, side) of uint8, the same ones each time."""

    def made(count: int = 8, side: int = 24) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        shape = (count, 3, side, side)
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    return made


@pytest.fixture
def seeded() -> Callable[..., torch.Generator]:
    """Return a generator that begins at a seed."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture
def stamp(plain: DataBundle) -> InvertedTrigger:
    """Return a checkerboard over a quarter of the image."""
    side = plain.image_size
    mask = torch.zeros(1, side, side)
    mask[:, : side // 2, : side // 2] = 1
    parity = (torch.arange(side).view(-1, 1) + torch.arange(side)) % 2
    pattern = parity.float().expand(3, -1, -1).clone()
    return InvertedTrigger("mask", mask, pattern, torch.zeros(3, side, side))
