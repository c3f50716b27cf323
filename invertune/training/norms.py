"""BatchNorm whose statistics are those of a batch that several processes share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from invertune.training.distributed import Ranks


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorm layers of a model, of images and of vectors alike."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


class SharedBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm computes, where that refuses: on a processor.

    Attributes:
        ranks: Who shares the batch.
    """

    ranks: Ranks

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Return normalized features, (B, C, ...), by the mean and variance of all shares."""
        if not self.training:
            return super().forward(x)
        own, axes = x.to(torch.promote_types(x.dtype, torch.float32)), [0, *range(2, x.dim())]
        count = own.new_tensor([own.numel() / own.shape[1]])
        sums = self.ranks.summed(torch.cat([own.sum(axes), count]))
        mean, total = sums[:-1] / sums[-1].detach(), sums[-1].detach()
        # In two passes, as the difference of large squares would lose digits.
        centered = own - _by_channel(mean, x)
        variance = self.ranks.summed(centered.square().sum(axes)) / total
        self._remember(mean.detach(), variance.detach(), float(total))
        factor = (variance + self.eps).rsqrt() * self.weight
        return (centered * _by_channel(factor, x) + _by_channel(self.bias, x)).to(x.dtype)

    def _check_input_dim(self, _input: Tensor) -> None:
        """Take what the layer took before."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(1.0, count - 1)), share)


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


@contextlib.contextmanager
def shared_norms(model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Take the statistics of BatchNorm over all processes' shares of a batch inside the block.

    Weights, statistics and their names stay as they are; without other processes nothing changes.
    """
    norms = batch_norms(model) if ranks.size > 1 else []
    kinds = [type(norm) for norm in norms]
    for norm in norms:
        on_cpu = all(weight.device.type == "cpu" for weight in norm.parameters())
        norm.__class__ = SharedBatchNorm if on_cpu else nn.SyncBatchNorm
        norm.ranks, norm.process_group = ranks, None  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind
            del norm.ranks, norm.process_group
