"""What defenses share that act while a model is trained: what they are given, and views of it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from invertune.baselines.augment import ImageAugmentation
from invertune.baselines.eda import EDA
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.fields import check_calls, check_is, check_types
from invertune.seeds import seeded
from invertune.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingTime:
    """A defense that trains on the suspect pairs, on augmented views of them, as the victim would.

    Attributes:
        name: Name in results.
        recipe: How to train, as the victim would have.
        augment_images, augment_texts: Make the views.
        needs: The pairs that the victim trains on.
        needs_origin: The model that training starts from.
        clean_samples: 0: it has no clean data.
        knows: What it is given.
    """

    name: str
    recipe: Recipe
    augment_images: ImageAugmentation
    augment_texts: EDA
    needs: str = "poisoned_pairs"
    needs_origin: bool = True
    clean_samples: int = 0
    knows: str = "the training"

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "recipe", Recipe)
        check_calls(self, "augment_images")
        check_is(self, "augment_texts", EDA)

    @property
    def least_pairs(self) -> int:
        """Pairs of a batch."""
        return self.recipe.batch_size

    def start(self, clean: CleanData) -> tuple[CLIP, ImageTextPairs]:
        """Return the model that the training starts from, and the suspect pairs.

        Raises:
            ValueError: If one of them was not given, or the pairs are fewer than a batch.
        """
        if clean.suspects is None or clean.origin is None:
            what = "pairs that a model is trained on" if clean.origin else "model to start from"
            raise ValueError(
                f"{self.name} is a training-time defense, which trains anew and repairs no "
                f"finished model: it needs the {what}, got none; choices: a defense whose needs "
                "are images or pairs"
            )
        self.recipe.check_pairs(len(clean.suspects), self.name)
        return clean.origin, clean.suspects

    def reworded(self, pairs: ImageTextPairs, seed: int, view: int = 0) -> ImageTextPairs:
        """Return the pairs with augmented captions, drawn once; every ``view`` is another draw."""
        captions = self.augment_texts(pairs.captions, seeded(seed, "augment captions", view))
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
