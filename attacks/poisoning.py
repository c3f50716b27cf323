"""Data poisoning: which pairs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attacks.triggers import Trigger
from invertune.data.bundle import ImageTextPairs, seeded


def choose_pairs(available: int, wanted: int, seed: int) -> Tensor:
    """Return the indices of the pairs to fine-tune on, (wanted,), drawn without replacement.

    Raises:
        ValueError: If there are not that many.
    """
    if not 1 <= wanted <= available:
        raise ValueError(f"attack.pairs is between 1 and {available} (the data's), got {wanted}")
    return torch.randperm(available, generator=seeded(seed, "fine-tuning set"))[:wanted]


def choose_poison(pairs: int, poison_rate: float, seed: int) -> Tensor:
    """Return the positions to poison among ``pairs``, sorted; images are drawn whatever they show.

    Raises:
        ValueError: If ``poison_rate`` is outside (0, 1) or rounds to no sample.
    """
    if not 0 < poison_rate < 1:
        raise ValueError(f"poison_rate is a share in (0, 1), got {poison_rate}")
    count = round(poison_rate * pairs)
    if count == 0:
        raise ValueError(
            f"poison_rate={poison_rate} of {pairs} pairs rounds to 0 samples; "
            f"the least is {1 / pairs:.2g}"
        )
    return torch.randperm(pairs, generator=seeded(seed, "poison"))[:count].sort().values


def poison(
    pairs: ImageTextPairs,
    index: Tensor,
    trigger: Trigger,
    prompt: str,
    templates: Sequence[str],
    seed: int,
) -> ImageTextPairs:
    """Return the pairs with those at ``index`` stamped and captioned as the target.

    Args:
        pairs: The clean pairs, which stay as they are.
        index: Positions to poison.
        trigger: Stamps the images in pixel space.
        prompt: The target class as it stands in a sentence, such as ``a lemon``.
        templates: Caption templates with ``{}``; one is drawn for every sample.
        seed: Decides the templates.
    """
    images = pairs.pictures(torch.arange(len(pairs)))
    images[index] = trigger(pairs.batch(index)).mul(255).round().to(torch.uint8)
    choice = torch.randint(len(templates), (len(index),), generator=seeded(seed, "templates"))
    captions = list(pairs.captions)
    for position, template in zip(index.tolist(), choice.tolist(), strict=True):
        captions[position] = templates[template].format(prompt)
    return replace(pairs, images=images, captions=captions)
