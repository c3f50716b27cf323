"""Several processes that train one model together, each with its share of every batch.

Each process minimizes its own part of the batch's mean loss, and gradients are *summed* over the
processes: together they are those of one process with the whole batch, for shares of any sizes.
(Averaged, as torch's DistributedDataParallel does it, they would have to be scaled by the number
of processes, and by the sizes of the shares.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_BUCKET = 2**25  # numbers that are sent at once


class LostProcessError(RuntimeError):
    """Another process of the same training ended, or does not answer."""


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Say in one line what a backend raises where another process is gone.

    Raises:
        LostProcessError: If what is done raises a RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:  # what backends raise has no class of its own
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LostProcessError(
            f"another process of this training does not answer: {said}"
        ) from error


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        del ctx
        total = own.clone(memory_format=torch.contiguous_format)
        with heard():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        # What one process adds is in the losses of all of them.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        with heard():
            dist.all_reduce(total)
        return total


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is; torch's default group has as many.

    Attributes:
        rank: Of this process, from 0; the first one writes all files.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """Return this process' part of a batch; the first shares may be one larger than others."""
        return batch.tensor_split(self.size)[self.rank]

    def start(self, count: int) -> int:
        """Return where this process' share of so many begins."""
        each, more = divmod(count, self.size)
        return self.rank * each + min(self.rank, more)

    def summed(self, own: Tensor) -> Tensor:
        """Return the sum over all processes; gradients flow back to all of them."""
        return own if self.size == 1 else _Summed.apply(own)  # type: ignore[no-any-return, no-untyped-call]

    def gathered(self, own: Tensor, count: int) -> Tensor:
        """Return the rows of all shares in their order, (count, D), of this process' own, (B, D).

        Gradients flow back to the processes that the rows are of.
        """
        if self.size == 1:
            return own
        start = self.start(count)
        # A sum with zeros: shares of unequal sizes are as good, and every backend can do it.
        padding = (0, 0, start, count - start - len(own))
        return self.summed(nn.functional.pad(own, padding))

    @torch.no_grad()
    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all processes; a weight that none of them used keeps none."""
        if self.size == 1 or not weights:
            return
        has = [float(weight.grad is not None) for weight in weights]
        used = self.summed(torch.tensor(has, device=weights[0].device)).tolist()
        for part in _buckets([w for w, count in zip(weights, used, strict=True) if count]):
            flat = torch.cat([_gradient(weight).reshape(-1) for weight in part])
            with heard():
                dist.all_reduce(flat)
            sizes = [weight.numel() for weight in part]
            for weight, own in zip(part, flat.split(sizes), strict=True):  # type: ignore[no-untyped-call]
                weight.grad = torch.empty_like(weight).copy_(own.view_as(weight))

    def from_first(self, value: T) -> T:
        """Return what the first process gives, a value that can be pickled."""
        if self.size == 1:
            return value
        held = [value]
        with heard():
            dist.broadcast_object_list(held, src=0)
        return held[0]

    @torch.no_grad()
    def copy_from_first(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the first process' values into tensors that all of them have."""
        if self.size == 1:
            return
        for tensor in tensors.values():
            held = tensor.detach().contiguous()
            with heard():
                dist.broadcast(held, src=0)
            tensor.copy_(held)

    def check_same(self, facts: Mapping[str, str], stage: str) -> None:
        """Compare what has to be the same in all processes.

        Args:
            facts: What it is -> its digest.
            stage: Name in the message.

        Raises:
            ValueError: If it differs; the same in every process.
        """
        if self.size == 1:
            return
        told: list[Mapping[str, str]] = [{}] * self.size
        with heard():
            dist.all_gather_object(told, dict(facts))
        for rank, other in enumerate(told):
            wrong = [name for name, digest in told[0].items() if other[name] != digest]
            if wrong:
                raise ValueError(
                    f"{stage}: all processes need the same {' and '.join(wrong)}; process {rank} "
                    f"of {self.size} has others than process 0"
                )


ALONE = Ranks()


def _gradient(weight: nn.Parameter) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield weights of one type together, as many as are sent at once."""
    held: list[nn.Parameter] = []
    for weight in weights:
        full = sum(w.numel() for w in held) + weight.numel() > _BUCKET
        if held and (full or held[0].dtype != weight.dtype):
            yield held
            held = []
        held.append(weight)
    if held:
        yield held
