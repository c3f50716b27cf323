"""The clean data that a method uses, of what there is."""

from __future__ import annotations

import torch

from invertune.data.bundle import CleanData
from invertune.seeds import seeded


def chosen(name: str, clean: CleanData, count: int, seed: int) -> CleanData:
    """Return so many of the clean images at random; fewer ones are among more.

    The seed alone decides, so that methods of equal ``count`` have the same images.

    Args:
        name: The method's, for the message.
        clean: What there is.
        count: How many.
        seed: Decides which.

    Raises:
        ValueError: If there are fewer.
    """
    if len(clean.images) < count:
        raise ValueError(f"{name} needs {count} clean images, got {len(clean.images)}")
    order = torch.randperm(len(clean.images), generator=seeded(seed, "clean"))
    return clean.take(order[:count])
