"""What defenses share that act while a model is trained: what they are given, and views of it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from invertune.baselines.augment import ImageAugmentation
from invertune.baselines.eda import EDA
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.seeds import seeded


def suspects_of(clean: CleanData, name: str) -> tuple[CLIP, ImageTextPairs]:
    """Return the model that a training starts from, and the suspect pairs that it is about.

    Args:
        clean: What the defense was given.
        name: Of the defense.

    Raises:
        ValueError: If one of them is not among it.
    """
    if clean.suspects is None or clean.origin is None:
        what = "pairs that a model is trained on" if clean.origin else "model to start from"
        raise ValueError(
            f"{name} is a training-time defense, which trains anew and repairs no finished model: "
            f"it needs the {what}, got none; choices: a defense whose needs are images or pairs"
        )
    return clean.origin, clean.suspects


def reworded(pairs: ImageTextPairs, augment: EDA, seed: int, view: int) -> ImageTextPairs:
    """Return the pairs with augmented captions, drawn once; every ``view`` is another draw."""
    captions = augment(pairs.captions, seeded(seed, "augment captions", view))
    return dataclasses.replace(pairs, captions=captions)


@dataclasses.dataclass(frozen=True)
class Views:
    """Augmented views of images, the same ones wherever a training goes on.

    Attributes:
        augment: Makes them.
        seed: Decides them.
    """

    augment: ImageAugmentation
    seed: int

    def __call__(self, images: Tensor, *names: object) -> Tensor:
        """Return a view of every image, (B, 3, H, W); all names together are one draw."""
        return self.augment(images, self.generator(*names))

    def generator(self, *names: object) -> torch.Generator:
        """Return what decides a view."""
        return seeded(self.seed, "augment images", *names)
