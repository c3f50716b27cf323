"""RoCLIP: match images with captions of a pool in place of their own, every other epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invertune.baselines.pairs import repaired
from invertune.baselines.pool import Pool
from invertune.baselines.suspects import TrainingTime, Views
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.defense import Purified, Training
from invertune.fields import check_counts
from invertune.losses import clip_loss
from invertune.training.objective import Batch


class Matching:
    """The loss of a step, and the pool of captions that it remembers; an `Objective`.

    Attributes:
        pool: Captions of earlier batches.
        every: K: in epochs K, 2K, ... images are matched with the pool.
        steps: Of an epoch.
        views: Augments the images.
    """

    def __init__(self, pool: Pool, every: int, steps: int, views: Views) -> None:
        self.pool, self.every, self.steps, self.views = pool, every, steps, views

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        """Return the contrastive loss, of images and either the pool's captions or their own."""
        images = model.encode_image(self.views(batch.images, batch.step))
        matched = self.matched(batch.step)
        # No gradient reaches texts that are not compared: the text tower rests then.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not matched):
            texts = model.encode_tokens(batch.tokens)
        if matched:
            texts = self.pool.look_up(images, texts)
        else:
            self.pool.push(texts)
        return clip_loss(images, texts, model.logit_scale)

    def matched(self, step: int) -> bool:
        """Return whether a step, counted from 0, is of an epoch that is matched with the pool."""
        return (step // self.steps + 1) % self.every == 0

    def state(self) -> dict[str, Any]:
        """Return the pool."""
        return self.pool.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with another one's pool."""
        self.pool.restore(state)


@dataclass(frozen=True, kw_only=True)
class RoCLIP(TrainingTime):
    """Train on the suspect pairs so that no image is held to its own caption all the time.

    Yang, Gao and Mirzasoleiman (NeurIPS 2023). Every K-th epoch an image is compared with the
    caption of a pool that is nearest to it, which for a poisoned image is one of what it shows;
    in all others with its own caption. Images are augmented at every step, captions once.

    The model that training starts from is trained; a finished one is not repaired, and ``model`` is
    not looked at. In two points the code's behavior is not kept: its pool starts with noise and
    takes in captions only where it is used, and its text tower decays where it learns nothing.

    Attributes:
        pool: Captions in the pool.
        every: K.
    """

    pool: int
    every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "pool", "every")

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe, Matching)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return what the training makes of a copy of ``clean.origin``; ``model`` is no matter.

        Raises:
            ValueError: If there are no suspect pairs or no original model, or fewer than a batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        del model
        origin, suspects = self.start(clean)
        steps, views = len(suspects) // self.recipe.batch_size, Views(self.augment_images, seed)
        return repaired(
            origin, self.reworded(suspects, seed), self.recipe, seed=seed, checkpoint=checkpoint,
            objective=Matching(Pool(self.pool), self.every, steps, views),
        )  # fmt: skip
