"""PAR (Singh, Croce and Hein, 2024): push the embeddings away from where the backdoor left them.

Perturb and Recover fine-tunes both towers on clean pairs by a loss with two sides. One drives every
embedding away from the suspect model's, whatever is seen, so that what fires the backdoor is lost
with the rest; the other, CLIP's own, lets images and captions find each other again, which only
clean pairs teach. The temperature stays as it is, and so do the statistics of BatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from invertune.baselines.pairs import chosen_pairs, repaired
from invertune.clip.encode import encode_images, encode_texts
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.defense import Purified, Training
from invertune.evidence import Finding
from invertune.fields import (
    check_counts,
    check_is,
    check_shares,
    check_types,
    check_weights,
    is_number,
)
from invertune.losses import clip_loss
from invertune.seeds import seeded
from invertune.training import Batch, Recipe
from invertune.work import Work

_MEASURED = 512  # pairs that the reached distances are measured on


def squared_distance(features: Tensor, others: Tensor) -> Tensor:
    """Return D, a scalar: the mean squared distance of embeddings, in [0, 4]; 2 is a right angle.

    Args:
        features, others: (B, D), unit norm, of the same samples.
    """
    return (features - others).square().sum(dim=-1).mean()


def repulsion(features: Tensor, suspect: Tensor, threshold: float) -> Tensor:
    """Return g(D), a scalar: the distance to the suspect's embeddings, or 0 beyond a threshold.

    There it has no gradient: what is far enough is not driven further.

    Args:
        features, suspect: (B, D), unit norm, of the same samples.
        threshold: tau, the largest D that counts.
    """
    distance = squared_distance(features, suspect)
    return torch.where(distance <= threshold, distance, torch.zeros_like(distance))


def par_loss(
    image_features: Tensor,
    text_features: Tensor,
    suspect_images: Tensor,
    suspect_texts: Tensor,
    logit_scale: Tensor,
    *,
    threshold: float,
    weight: float,
) -> Tensor:
    """Return L_CLIP - weight (g(D_I) + g(D_T)), a scalar, as PAR's code has it.

    Args:
        image_features, text_features: (B, D), unit norm, of the same pairs.
        suspect_images, suspect_texts: (B, D), unit norm, what the suspect model has of them.
        logit_scale: Logarithm of the factor on the cosine similarities.
        threshold: tau.
        weight: Of both distances; PAR has 1/2.
    """
    images = repulsion(image_features, suspect_images, threshold)
    texts = repulsion(text_features, suspect_texts, threshold)
    return clip_loss(image_features, text_features, logit_scale) - weight * (images + texts)


@dataclass(frozen=True)
class NoiseAndErasing:
    """PAR's augmentation: noise that only brightens, and a small square of one color.

    Attributes:
        noise_share: Share of the images that get noise.
        sigma: Deviation of a Gaussian, of which what is negative counts as 0, as in PAR's code.
        erase_share: Share of the images that lose a square.
        area: Smallest and largest area of it, as shares of the image's.
    """

    noise_share: float
    sigma: float
    erase_share: float
    area: Sequence[float]

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "noise_share", "erase_share", zero=True, one=True)
        check_weights(self, "sigma")
        area = self.area
        right = isinstance(area, list | tuple) and len(area) == 2 and all(map(is_number, area))
        if not right or not 0 < area[0] <= area[1] < 1:
            raise ValueError(f"area is two growing shares in (0, 1), got {self.area!r}")

    def __call__(self, images: Tensor, generator: torch.Generator, color: Tensor) -> Tensor:
        """Return changed copies of ``images``, (B, 3, H, W) in [0, 1].

        Args:
            images: They stay as they are.
            generator: Decides all that is drawn, for each image apart.
            color: (3,) of the squares.
        """
        noisy, erased = (
            torch.rand(len(images), 1, 1, 1, generator=generator) < share
            for share in (self.noise_share, self.erase_share)
        )
        noise = torch.randn(images.shape, generator=generator).clamp_min_(0) * noisy
        brighter = (images + self.sigma * noise.to(images)).clamp(0, 1)
        squares = erased & self._squares(images, generator)
        return torch.where(squares.to(images.device), color.view(3, 1, 1).to(images), brighter)

    def _squares(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return where a square of each image is, (B, 1, H, W) booleans."""
        (low, high), (count, _, height, width) = self.area, images.shape
        area, top, left = torch.rand(3, count, 1, 1, 1, generator=generator).unbind()
        side = ((low + (high - low) * area) * height * width).sqrt().round()
        top, left = (top * (height - side + 1)).floor(), (left * (width - side + 1)).floor()
        rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
        across = (columns >= left) & (columns < left + side)
        return (rows >= top) & (rows < top + side) & across


@dataclass(frozen=True)
class PAR:
    """Perturb and Recover: fine-tune away from the suspect model's embeddings.

    The paper's rates fall in a line to a tenth and then in a cosine to 1/30,000 of the first; the
    recipe says so by ``warmup_from`` and ``cosine_to``. Its code leaves BatchNorm in evaluation
    mode, by way of a validation that never switches back; here that is what is asked for.

    Attributes:
        name: Name in results.
        clean_samples: Number of clean pairs.
        threshold: tau, the largest mean squared distance that is still increased.
        weight: Of the distances against the contrastive loss.
        augment: Changes the images of every batch, of both models alike.
        recipe: How to fine-tune.
        needs: Clean images with captions.
        knows: What it is given beyond the model and the images.
    """

    name: str
    clean_samples: int
    threshold: float
    weight: float
    augment: NoiseAndErasing
    recipe: Recipe
    needs: str = "pairs"
    knows: str = "captions"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "clean_samples")
        check_weights(self, "threshold", "weight")
        check_is(self, "augment", NoiseAndErasing)
        check_is(self, "recipe", Recipe)
        self.recipe.check_pairs(self.clean_samples, self.name)

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through both models, at most; the number of classes is no matter."""
        steps, size = self.recipe.steps(self.clean_samples), self.recipe.batch_size
        measured = min(_MEASURED, self.clean_samples)
        apart = Work(forward=steps * size + 2 * measured, texts=self.clean_samples + measured)
        return {"purify": apart + Work.of_pairs(steps, size)}

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe, _Goal)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a fine-tuned copy; ``model`` itself stays as it is.

        Raises:
            ValueError: If there are fewer clean pairs than ``clean_samples`` or than a batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        pairs = chosen_pairs(clean, self.clean_samples, seed)
        suspect = model.eval()
        texts = encode_texts(suspect, pairs.captions)
        found = repaired(
            model, pairs, self.recipe, seed=seed, checkpoint=checkpoint,
            objective=_Goal(self, suspect, texts, seed),
        )  # fmt: skip
        reached = _distances(found.model, suspect, pairs, texts)
        return replace(found, evidence=replace(found.evidence, findings=reached))


@dataclass(frozen=True)
class _Goal:
    """PAR's loss of a batch.

    Attributes:
        defense: Whose loss.
        suspect: The model as it came, in evaluation mode.
        texts: (N, D) its features of all captions.
        seed: Decides, with the step, the augmentation.
    """

    defense: PAR
    suspect: CLIP
    texts: Tensor
    seed: int

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        generator = seeded(self.seed, "augment images", batch.step)
        images = self.defense.augment(batch.images, generator, model.mean.flatten())
        with torch.no_grad():
            before = self.suspect.encode_image(images)
        return par_loss(
            model.encode_image(images),
            model.encode_tokens(batch.tokens),
            before,
            self.texts[batch.index],
            model.logit_scale.detach(),
            threshold=self.defense.threshold,
            weight=self.defense.weight,
        )


def _distances(
    tuned: CLIP, suspect: CLIP, pairs: ImageTextPairs, texts: Tensor
) -> dict[str, Finding]:
    """Return how far the embeddings of the first pairs were driven: D of images and of texts."""
    first = torch.arange(min(_MEASURED, len(pairs)))
    pictures, captions = pairs.pictures(first), [pairs.captions[i] for i in first.tolist()]
    images = (encode_images(model, pictures) for model in (tuned, suspect))
    return {
        "image_distance": squared_distance(*images).item(),
        "text_distance": squared_distance(encode_texts(tuned, captions), texts[first]).item(),
    }
