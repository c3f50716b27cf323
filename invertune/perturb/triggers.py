"""Inverted triggers: what the defender's optimization finds in place of the true one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class InvertedTrigger:
    """A trigger as the defender reconstructs it: x* = (1 - m) w(x) + m t + d, clipped to [0, 1].

    Every tensor may have a leading dimension more: then it is as many triggers as images, or as
    many as `one` picks from.

    Attributes:
        form: How it was parametrized: ``mask``, ``low_frequency``, ``warp``, ...
        mask: (1 or 3, H, W) share of the pattern, in [0, 1]; zero for additive forms and warps.
        pattern: (3, H, W) what stands there, in [0, 1].
        offset: (3, H, W) what is added; zero for mask forms and warps.
        flow: (2, H, W) where every pixel comes from, as shifts along x and y in pixels, which is
            what w(x) does; None leaves pixels where they are.
        origin: What it was made of, by name, for whoever goes on optimizing it: `Shrinking.origin`
            has it. Empty where nobody can.
    """

    form: str
    mask: Tensor
    pattern: Tensor
    offset: Tensor
    flow: Tensor | None = None
    origin: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, images: Tensor) -> Tensor:
        """Return triggered copies of ``images``, (B, 3, H, W) in [0, 1]."""
        mask, pattern, offset = (t.to(images) for t in (self.mask, self.pattern, self.offset))
        moved = images if self.flow is None else warp(images, self.flow.to(images))
        return ((1 - mask) * moved + mask * pattern + offset).clamp(0, 1)

    @property
    def share(self) -> float:
        """Return the area it claims: the mean of the mask, or of what it changes.

        A pixel counts as changed by |offset| > 1/255 or by a shift of more than half a pixel.
        """
        # Below 1/255 a change would be lost in saving the image.
        changed = (self.offset.abs().amax(dim=0) > 1 / 255).float()
        if self.flow is not None:
            changed = torch.maximum(changed, (self.flow.norm(dim=0) > 0.5).float())
        return float(torch.maximum(self.mask.mean(dim=0), changed).mean())

    def one(self, index: int | Tensor) -> InvertedTrigger:
        """Return those at ``index`` of the leading dimension; one trigger for a number."""
        return self.of(self.form, {name: t[index] for name, t in self.tensors().items()})

    def detached(self) -> InvertedTrigger:
        """Return a copy of its own on the CPU, without a graph."""
        parts = {name: t.detach().cpu().clone() for name, t in self.tensors().items()}
        return self.of(self.form, parts)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that there are, to save them."""
        found = {"mask": self.mask, "pattern": self.pattern, "offset": self.offset}
        moved = {} if self.flow is None else {"flow": self.flow}
        return {**found, **moved, **self.origin}

    @classmethod
    def of(cls, form: str, tensors: Mapping[str, Tensor]) -> InvertedTrigger:
        """Return the trigger of what `tensors` returned."""
        own = {name: tensors[name] for name in _OWN if name in tensors}
        return cls(form, **own, origin={k: t for k, t in tensors.items() if k not in own})


_OWN = ("mask", "pattern", "offset", "flow")


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Return images whose pixels come from elsewhere, (B, 3, H, W), bilinear, edges continued.

    Args:
        images: (B, 3, H, W).
        flow: (2, H, W) or (B, 2, H, W) shifts along x and y, in pixels.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype).view(-1, 1)
    columns = torch.arange(width, device=images.device, dtype=images.dtype)
    x = (columns + flow[..., 0, :, :]) * (2 / max(1, width - 1)) - 1
    y = (rows + flow[..., 1, :, :]) * (2 / max(1, height - 1)) - 1
    grid = torch.stack([x, y], dim=-1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)
