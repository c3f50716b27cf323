"""The same models, faster: what open_clip's towers compute without need is left out.

On a processor a small ResNet spends a third of a step on batch normalization and on projections of
its attention pooling, a small ViT as much on copies between attention's layouts, on its activation
and on the gradient of its patches. Names and shapes of the weights stay as they are, and so do
features, up to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
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


class PatchConvolution(nn.Conv2d):
    """A convolution whose kernels lie side by side, as one matrix product of patches."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features, (B, D, H / p, W / p), of images, (B, 3, H, W)."""
        count, channels, *size = x.shape
        high, wide = self.kernel_size
        rows, columns = size[0] // high, size[1] // wide
        # What no kernel reaches is left out, as a convolution leaves it out.
        patches = x[..., : rows * high, : columns * wide]
        patches = patches.reshape(count, channels, rows, high, columns, wide)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, rows, columns, -1)
        return F.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class SelfAttention(nn.MultiheadAttention):
    """Attention of tokens to each other, with fewer copies between layouts on a processor."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `torch.nn.MultiheadAttention` does, (B, T, D), and no weights."""
        asked = {name: option for name, option in options.items() if option is not None}
        # As an image tower asks: no mask, no weights.
        usual = query is key is value and asked == {"need_weights": False}
        if query.device.type != "cpu" or not usual:
            return super().forward(query, key, value, **options)
        count, length = query.shape[:2]
        heads, own = self.num_heads, self.head_dim
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        by_part = projected.view(count, length, 3, heads, own).permute(2, 0, 3, 1, 4)
        q, k, v = (part.reshape(count * heads, length, own) for part in by_part)
        scores = torch.bmm(q * own**-0.5, k.transpose(1, 2))
        mixed = torch.bmm(scores.softmax(dim=-1).to(v.dtype), v)
        joined = mixed.view(count, heads, length, own).transpose(1, 2).reshape(query.shape)
        return self.out_proj(joined), None


class QuickMLP(nn.Sequential):
    """A transformer's MLP with QuickGELU, x * sigmoid(1.702 x), as SiLU(1.702 x) / 1.702.

    SiLU is one kernel, and both factors are the weights'.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return features, (B, T, D)."""
        if type(self.gelu) is not QuickGELU:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        first, second = cast(nn.Linear, self.c_fc), cast(nn.Linear, self.c_proj)
        hidden = F.linear(x, first.weight * _QUICK, first.bias * _QUICK)
        return F.linear(F.silu(hidden), second.weight / _QUICK, second.bias)


_QUICK = 1.702


def quicken(clip: nn.Module) -> None:
    """Replace, in place, what a model computes without need; its weights stay."""
    for module in clip.modules():
        if type(module) is AttentionPool2d:
            module.__class__ = SingleQueryPool
        if isinstance(module, VisionTransformer):
            _quicken_transformer(module)
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d) and child.kernel_size == 1:
                module._modules[name] = nn.Identity()  # a copy of its input otherwise


def _side_by_side(convolution: nn.Module) -> bool:
    return (
        type(convolution) is nn.Conv2d
        and convolution.kernel_size == convolution.stride
        and convolution.padding == (0, 0)
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
    )


def _quicken_transformer(tower: VisionTransformer) -> None:
    if _side_by_side(tower.conv1):
        tower.conv1.__class__ = PatchConvolution
    for block in tower.modules():
        if isinstance(block, ResidualAttentionBlock):
            _quicken_block(block)


def _quicken_block(block: ResidualAttentionBlock) -> None:
    attention, mlp = block.attn, block.mlp
    if (
        type(attention) is nn.MultiheadAttention
        and attention.batch_first
        and attention._qkv_same_embed_dim
        and attention.bias_k is None
        and not attention.dropout
    ):
        attention.__class__ = SelfAttention
    if type(mlp) is nn.Sequential and list(mlp._modules) == ["c_fc", "gelu", "c_proj"]:
        mlp.__class__ = QuickMLP


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
