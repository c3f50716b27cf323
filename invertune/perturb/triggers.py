"""Inverted triggers: what the defender's optimization finds in place of the true one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InvertedTrigger:
    """A trigger as the defender reconstructs it: x* = (1 - m) x + m t + d, clipped to [0, 1].

    Attributes:
        form: How it was parametrized: ``mask``, ``low_frequency``, ``pixels``, ...
        mask: (1 or 3, H, W) share of the pattern, in [0, 1]; zero for additive forms.
        pattern: (3, H, W) what stands there, in [0, 1].
        offset: (3, H, W) what is added; zero for mask forms.
    """

    form: str
    mask: Tensor
    pattern: Tensor
    offset: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return triggered copies of ``images``, (B, 3, H, W) in [0, 1]."""
        mask, pattern, offset = (t.to(images) for t in (self.mask, self.pattern, self.offset))
        return ((1 - mask) * images + mask * pattern + offset).clamp(0, 1)

    @property
    def share(self) -> float:
        """Return the area it claims: the mean of the mask, or of |offset| > 1/255."""
        # Below 1/255 a change would be lost in saving the image.
        changed = (self.offset.abs().amax(dim=0) > 1 / 255).float()
        return float(torch.maximum(self.mask.mean(dim=0), changed).mean())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, to save them."""
        return {"mask": self.mask, "pattern": self.pattern, "offset": self.offset}
