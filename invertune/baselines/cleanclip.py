"""CleanCLIP: fine-tune on clean pairs while each modality is held together by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.baselines.augment import ImageAugmentation
from invertune.baselines.eda import EDA
from invertune.baselines.pairs import STAGE, chosen_pairs, repaired
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.defense import Purified, Training
from invertune.fields import check_calls, check_counts, check_is, check_types, check_weights
from invertune.losses import clip_loss
from invertune.seeds import seeded
from invertune.training.objective import Batch, Objective
from invertune.training.recipe import Recipe
from invertune.work import Work


def view_loss(features: Tensor, augmented: Tensor, logit_scale: Tensor) -> Tensor:
    """Return how badly samples find their own augmented view, a scalar cross-entropy.

    One direction only, from originals to views, as CleanCLIP's self-supervised terms have it.

    Args:
        features: (B, D) of the originals, unit norm.
        augmented: (B, D), unit norm; row i is of sample i.
        logit_scale: Logarithm of the factor on the cosine similarities.
    """
    logits = logit_scale.exp() * features @ augmented.T
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@dataclass(frozen=True)
class Views:
    """Features of a batch, (B, D) of unit norm, and those of its augmented views."""

    image: Tensor
    text: Tensor
    augmented_image: Tensor
    augmented_text: Tensor


def cleanclip_loss(
    views: Views, logit_scale: Tensor, clip_weight: float, in_modal_weight: float
) -> Tensor:
    """Return L_CleanCLIP, a scalar (Bansal et al., 2023): both modalities, and each by itself.

    The contrastive term sees the originals alone; all terms share the logit scale.

    Args:
        views: Features of the batch.
        logit_scale: Logarithm of the factor on the cosine similarities.
        clip_weight: Factor on the contrastive loss of images and captions; the paper's lambda_1.
        in_modal_weight: Factor on the mean of the two self-supervised losses; lambda_2.
    """
    across = clip_loss(views.image, views.text, logit_scale)
    images = view_loss(views.image, views.augmented_image, logit_scale)
    texts = view_loss(views.text, views.augmented_text, logit_scale)
    return clip_weight * across + in_modal_weight * (images + texts) / 2


@dataclass(frozen=True)
class CleanCLIP:
    """Learn each modality anew by itself, so that a trigger and its text come apart.

    Bansal et al. (ICCV 2023). Images are augmented anew at every step, captions once before the
    training. Originals and views go through the image tower together, as in the paper's code: where
    BatchNorm is trained, its statistics are of both.

    Attributes:
        name: Name in results.
        clean_samples: Number of clean pairs.
        recipe: How to train; the logit scale is trained too.
        augment_images: Makes the views of images.
        augment_texts: Makes the views of captions.
        clip_weight, in_modal_weight: Factors of `cleanclip_loss`.
        needs: Clean images with captions.
        knows: What it is given beyond the model and the images.
    """

    name: str
    clean_samples: int
    recipe: Recipe
    augment_images: ImageAugmentation
    augment_texts: EDA
    clip_weight: float
    in_modal_weight: float
    needs: str = "pairs"
    knows: str = "captions"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "clean_samples")
        check_is(self, "recipe", Recipe)
        self.recipe.check_pairs(self.clean_samples, STAGE)
        check_calls(self, "augment_images")
        check_is(self, "augment_texts", EDA)
        check_weights(self, "clip_weight", "in_modal_weight")

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe, CleanCLIP.objective)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a repaired copy; ``model`` itself stays as it is.

        Raises:
            ValueError: If there are fewer clean pairs than ``clean_samples``, or than a batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        pairs = chosen_pairs(clean, self.clean_samples, seed)
        return repaired(
            model, pairs, self.recipe, seed=seed, checkpoint=checkpoint,
            objective=self.objective(seed), texts=self.texts(pairs.captions, seed),
        )  # fmt: skip

    def texts(self, captions: Sequence[str], seed: int) -> list[str]:
        """Return the views of the captions, in their order."""
        return self.augment_texts(captions, seeded(seed, "augment texts"))

    def objective(self, seed: int) -> Objective:
        """Return the loss of a batch whose further texts are those of `texts`."""

        def loss(model: CLIP, batch: Batch) -> Tensor:
            views = self.views(model, batch, seed)
            return cleanclip_loss(views, model.logit_scale, self.clip_weight, self.in_modal_weight)

        return loss

    def views(self, model: CLIP, batch: Batch, seed: int) -> Views:
        """Return the features of a batch and of its views, by one pass through each tower."""
        drawn = seeded(seed, "augment images", batch.step)
        images = torch.cat([batch.images, self.augment_images(batch.images, drawn)])
        texts = torch.cat([batch.tokens, batch.texts[batch.index]])
        image, augmented_image = model.encode_image(images).chunk(2)
        text, augmented_text = model.encode_tokens(texts).chunk(2)
        return Views(image, text, augmented_image, augmented_text)

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through the model; the number of classes is no matter."""
        steps = self.recipe.steps(self.clean_samples)
        return {"purify": Work.of_pairs(steps, 2 * self.recipe.batch_size)}  # and their views
