"""What a training minimizes in place of the contrastive loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from invertune.clip.models import CLIP


@dataclass(frozen=True)
class Batch:
    """What a training objective sees of a step.

    Attributes:
        images: (B, 3, H, W) in [0, 1], on the model's device.
        tokens: (B, L) of the captions, for `CLIP.encode_tokens`, on the same device. They are
            numbered as the training numbers them: other texts can be encoded only as ``texts``.
        index: (B,) positions among the pairs.
        texts: (T, L) of the further texts that the training was given, alike.
    """

    images: Tensor
    tokens: Tensor
    index: Tensor
    texts: Tensor


Objective = Callable[[CLIP, Batch], Tensor]
