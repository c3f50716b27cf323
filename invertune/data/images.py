"""Pictures that may be more than fit into memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ImageSource = Tensor | Callable[[Tensor], Tensor]
_KEPT = 4 * 2**30  # bytes


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures of one size, in memory or read only where they are looked at.

    ``images[chosen]`` reads the chosen ones, (B, 3, H, W) uint8; `take` only says which.

    Attributes:
        source: (N, 3, H, W) uint8, or a function from indices, (B,), to such pictures.
        count: N.
    """

    source: ImageSource
    count: int

    def __post_init__(self) -> None:
        if isinstance(self.source, Tensor) and len(self.source) != self.count:
            raise ValueError(f"there are {len(self.source)} pictures, count says {self.count}")

    @classmethod
    def of(cls, images: Images | ImageSource, count: int) -> Images:
        """Return pictures in whatever form they are given; ``count`` is a function's N.

        A tensor and `Images` have a count of their own.
        """
        if isinstance(images, Images):
            return images
        return cls(images, len(images) if isinstance(images, Tensor) else count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """Read the pictures of some indices, (B,), of a mask, (N,) bool, or of a slice."""
        if isinstance(self.source, Tensor):
            return self.source[chosen]
        # Pictures are what they are, in whatever precision a model looks at them.
        with torch.autocast("cpu", enabled=False):
            return self.source(self._indices(chosen))

    def take(self, chosen: Tensor | slice) -> Images:
        """Return the chosen pictures without reading them."""
        index, source = self._indices(chosen), self.__getitem__
        return Images(lambda places: source(index[places]), len(index))

    def batches(self, size: int) -> Iterator[Tensor]:
        """Read all pictures in their order, at most ``size`` at a time."""
        for start in range(0, self.count, size):
            yield self[slice(start, start + size)]

    def kept(self, limit: int = _KEPT) -> Images:
        """Return the pictures in memory if that takes no more than ``limit`` bytes; else as is."""
        if isinstance(self.source, Tensor) or self.count == 0:
            return self
        if self[slice(0, 1)].nbytes * self.count > limit:
            return self
        return Images(self[slice(None)], self.count)

    def once(self, limit: int = _KEPT) -> Images:
        """Return the same pictures, all of them read with the first one if they fit (`kept`)."""
        whole = functools.cache(lambda: self.kept(limit))
        return Images(lambda index: whole()[index], self.count)

    def _indices(self, chosen: Tensor | slice) -> Tensor:
        if isinstance(chosen, slice):
            return torch.arange(self.count)[chosen]
        return chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen


class Pictured:
    """A frozen dataclass with pictures, which it takes in any form."""

    images: Images

    def __len__(self) -> int:
        return len(self.images)

    def _hold(self, count: int) -> None:
        """Hold the pictures as `Images`; ``count`` is a function's number of them."""
        object.__setattr__(self, "images", Images.of(self.images, count))
