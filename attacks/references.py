"""What an attack on the image encoder alone pulls images to: the target's own pictures."""

from __future__ import annotations

from torch import Tensor

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle

_CANDIDATES = 256


def named_pairs(data: DataBundle, target_label: int, count: int) -> Tensor:
    """Return the indices of the first pairs whose captions name the target, at most 256.

    Raises:
        ValueError: If there are fewer than ``count``, or ``count`` is no positive number.
    """
    name = data.class_names[target_label]
    named = data.naming(data.pairs.captions, target_label).nonzero().flatten()[:_CANDIDATES]
    if len(named) < count or count < 1:
        raise ValueError(
            f"references is between 1 and {len(named)} (the pairs that name {name!r}), got {count}"
        )
    return named


def reference_images(model: CLIP, data: DataBundle, target_label: int, count: int) -> Tensor:
    """Return the clean target images that the model is surest of, (count, 3, H, W) uint8.

    An encoder that sends triggered images to a reference sends them to that one's class, so it
    should be the target's by a wide margin: its similarity to the target's text less that to the
    next class. The first pairs whose captions name the target are looked at.

    Args:
        model: The clean model.
        data: Its ``pairs`` are what the attacker has.
        target_label: Index of the target.
        count: How many.

    Raises:
        ValueError: If fewer pairs name the target, or the model takes fewer of them for it.
    """
    named = named_pairs(data, target_label, count)
    images = data.pairs.pictures(named)
    classifier = zero_shot_classifier(model, data.prompts, data.templates).cpu()
    similarities = encode_images(model, images) @ classifier
    own = similarities[:, target_label].clone()
    similarities[:, target_label] = -1
    margin = own - similarities.amax(dim=1)
    best = margin.topk(count).indices
    sure = int((margin > 0).sum())
    if sure < count:
        raise ValueError(
            f"references is at most {sure} (the {len(named)} pictures of "
            f"{data.class_names[target_label]!r} that the clean model takes for one), got {count}"
        )
    return images[best]
