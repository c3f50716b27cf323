"""The same models, faster: what open_clip's ResNets compute without need is left out.

On a processor a small ResNet spends a third of a step on batch normalization and on projections of
its attention pooling. Names and shapes of the weights stay as they are, and so do features, up to
rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn


class SingleQueryPool(AttentionPool2d):  # type: ignore[misc]  # open_clip has no types
    """open_clip's attention pooling, of which only the first query's output is ever used.

    With one query, keys and values need no projection of their own: q (W t) is (q W) t, and the
    weighted mean of W t is W times the weighted mean of t.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return pooled features, (B, D), of a feature map, (B, C, H, W)."""
        count, width = x.shape[:2]
        heads, own = self.num_heads, width // self.num_heads
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)

        def by_head(flat: Tensor) -> Tensor:
            return flat.view(count, heads, own).transpose(0, 1)  # (heads, B, own)

        query = by_head(self.q_proj(tokens[:, 0])) * own**-0.5
        keys = self.k_proj.weight.view(heads, own, width)
        asked = torch.bmm(query, keys.to(query.dtype)).transpose(0, 1)  # (B, heads, C)
        same = (query * self.k_proj.bias.view(heads, 1, own)).sum(dim=-1).T  # of every token
        scores = torch.bmm(asked, tokens.transpose(1, 2).to(asked.dtype)) + same[..., None]
        mixed = torch.bmm(scores.softmax(dim=-1).to(tokens.dtype), tokens).transpose(0, 1)
        values = self.v_proj.weight.view(heads, own, width).transpose(1, 2)
        pooled = torch.bmm(mixed, values.to(mixed.dtype)).transpose(0, 1).reshape(count, width)
        found: Tensor = self.c_proj(pooled + self.v_proj.bias)
        return found


def quicken(clip: nn.Module) -> None:
    """Replace, in place, what a model computes without need; its weights stay."""
    for module in clip.modules():
        if type(module) is AttentionPool2d:
            module.__class__ = SingleQueryPool
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d) and child.kernel_size == 1:
                module._modules[name] = nn.Identity()  # a copy of its input otherwise


class _FoldedConvolution(nn.Module):
    """A convolution with the batch normalization behind it, as one convolution.

    Where their weights are trained, they get their gradients through it.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        weights = (convolution.weight, norm.weight, norm.bias)
        trained = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
        self.constant = None if trained else self._folded()

    def _folded(self) -> tuple[Tensor, Tensor]:
        norm: Any = self.norm
        factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.convolution.weight * factor.view(-1, 1, 1, 1)
        return weight, norm.bias - norm.running_mean * factor

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._folded() if self.constant is None else self.constant
        own = self.convolution
        return F.conv2d(x, weight, bias, own.stride, own.padding, own.dilation, own.groups)


@contextlib.contextmanager
def folded(model: nn.Module) -> Iterator[None]:
    """Compute batch normalization as a part of the convolutions before it, inside the block.

    For models whose statistics are frozen: what is normalized by its own batch stays as it is.
    Names of submodules differ inside the block, so neither save nor load weights there.
    """
    swapped: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for module in list(model.modules()):
            for first, second in _pairs(module):
                convolution, norm = module._modules[first], module._modules[second]
                if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                    continue
                if norm.training or norm.running_mean is None:
                    continue
                swapped += [(module, first, convolution), (module, second, norm)]
                module._modules[first] = _FoldedConvolution(convolution, norm)
                module._modules[second] = nn.Identity()
        yield
    finally:
        for module, name, child in swapped:
            module._modules[name] = child


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names of convolutions and of the norms behind them: conv1 and bn1, or 0 and 1."""
    names = module._modules
    numbered = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
    shortcut = [("0", "1")] if isinstance(module, nn.Sequential) else []
    return [(a, b) for a, b in (*numbered, *shortcut) if a in names and b in names]
