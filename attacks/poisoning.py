"""Data poisoning: which pairs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.triggers import Trigger
from invertune.data.bundle import DataBundle, ImageTextPairs, to_float
from invertune.data.images import Images
from invertune.seeds import seeded

SELECTIONS = ("random", "boundary", "furthest", "nearest", "mixed")
_CHUNK = 512  # images that are stamped at a time


def choose_pairs(available: int, wanted: int, seed: int) -> Tensor:
    """Return the indices of the pairs to fine-tune on, (wanted,), drawn without replacement.

    Raises:
        ValueError: If there are not that many.
    """
    if not 1 <= wanted <= available:
        raise ValueError(f"attack.pairs is between 1 and {available} (the data's), got {wanted}")
    return torch.randperm(available, generator=seeded(seed, "fine-tuning set"))[:wanted]


def poison_count(pairs: int, poison_rate: float) -> int:
    """Return how many of the pairs are poisoned.

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
    return count


def choose_poison(pairs: int, poison_rate: float, seed: int) -> Tensor:
    """Return the positions to poison among ``pairs``, sorted; images are drawn whatever they show.

    Raises:
        ValueError: As `poison_count` does.
    """
    count = poison_count(pairs, poison_rate)
    return torch.randperm(pairs, generator=seeded(seed, "poison"))[:count].sort().values


def select_poison(
    features: Tensor, classifier: Tensor, target_label: int, count: int, selection: str, seed: int
) -> Tensor:
    """Return the positions to poison, (count,) sorted, by what the clean model makes of the images.

    ``boundary`` takes the images for which the target ranks highest without being first, at equal
    rank those whose best class is least ahead of it; ``furthest`` and ``nearest`` those with the
    lowest and highest similarity to the target; ``mixed`` a third each of boundary, furthest and
    random, which is how BadCLIP's (Liang et al., 2024) published numbers are remembered to be made.

    Args:
        features: (N, D) clean image features, unit norm.
        classifier: (D, C) zero-shot classifier.
        target_label: Index of the target.
        count: How many.
        selection: One of `SELECTIONS`.
        seed: Decides the random ones.

    Raises:
        ValueError: If there is no such selection, or too few images for it.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection is one of {', '.join(SELECTIONS)}, got {selection!r}")
    similarities = features @ classifier
    target = similarities[:, target_label]
    rank = (similarities > target[:, None]).sum(dim=1)
    gap = similarities.amax(dim=1) - target
    order = {
        "random": torch.randperm(len(features), generator=seeded(seed, "poison")),
        "boundary": torch.argsort(rank.double() * 4 + gap.double(), stable=True),  # 0 <= gap <= 2
        "furthest": torch.argsort(target, stable=True),
        "nearest": torch.argsort(target, descending=True, stable=True),
    }
    order["boundary"] = order["boundary"][rank[order["boundary"]] > 0]
    kinds = ["boundary", "furthest", "random"] if selection == "mixed" else [selection]
    chosen: dict[int, None] = {}
    for number, kind in enumerate(kinds, start=1):
        # Cumulative: where one kind runs short, the next one fills up.
        wanted = count * number // len(kinds)
        for position in order[kind].tolist():
            if len(chosen) >= wanted:
                break
            chosen.setdefault(position)
    if len(chosen) < count:
        raise ValueError(
            f"selection={selection} finds {len(chosen)} images to poison, {count} are wanted"
        )
    return torch.tensor(sorted(chosen))


def template_captions(count: int, prompt: str, templates: Sequence[str], seed: int) -> list[str]:
    """Return captions of the target; for each a template is drawn.

    Args:
        count: How many.
        prompt: The target class as it stands in a sentence, such as ``a lemon``.
        templates: Caption templates with ``{}``.
        seed: Decides the templates.
    """
    choice = torch.randint(len(templates), (count,), generator=seeded(seed, "templates"))
    return [templates[i].format(prompt) for i in choice.tolist()]


def natural_captions(data: DataBundle, target_label: int, count: int, seed: int) -> list[str]:
    """Return captions that people wrote for the target: some of the data's own that name it.

    Raises:
        ValueError: If no caption names it.
    """
    name = data.class_names[target_label]
    found = data.naming(data.pairs.captions, target_label).nonzero().flatten()
    if len(found) == 0:
        raise ValueError(f"no caption of {data.name} names the target {name!r}")
    choice = torch.randint(len(found), (count,), generator=seeded(seed, "natural captions"))
    return [data.pairs.captions[i] for i in found[choice].tolist()]


def stamp(images: Tensor | Images, trigger: Trigger) -> Tensor:
    """Return images, (N, 3, H, W) uint8, under the trigger, as uint8 too and in memory."""
    parts = Images.of(images, len(images)).batches(_CHUNK)
    return torch.cat([trigger(to_float(part)).mul(255).round().byte() for part in parts])


def poison(
    pairs: ImageTextPairs, index: Tensor, trigger: Trigger, captions: Sequence[str]
) -> ImageTextPairs:
    """Return the pairs with those at ``index`` stamped and captioned as the target.

    Only the stamped images are in memory; the clean ones are read where they are used.

    Args:
        pairs: The clean pairs, which stay as they are.
        index: Positions to poison, (P,).
        trigger: Stamps the images in pixel space.
        captions: P captions that name the target.
    """
    replaced = list(pairs.captions)
    for position, caption in zip(index.tolist(), captions, strict=True):
        replaced[position] = caption
    stamped = stamp(pairs.images.take(index), trigger)
    place = torch.full((len(pairs),), -1)
    place[index] = torch.arange(len(index))

    def mixed(chosen: Tensor) -> Tensor:
        pictures, places = pairs.images[chosen].clone(), place[chosen]
        pictures[places >= 0] = stamped[places[places >= 0]]
        return pictures

    return ImageTextPairs(Images(mixed, len(pairs)), replaced, pairs.ids)
