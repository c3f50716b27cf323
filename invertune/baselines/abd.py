"""ABD (Kuang et al., 2024): adversarial patches lie where the backdoor does, and stand in for it.

Adversarial Backdoor Defense optimizes one patch for all images against the suspect model, by
AdvCLIP's GAN and a loss that makes the patch act as the trigger would; then it fine-tunes on clean
images that all wear the patch, with their own captions reworded. The paper has no code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from invertune.baselines.eda import EDA
from invertune.baselines.pairs import chosen_pairs, repaired
from invertune.clip.encode import autocast, encode_images, encode_texts
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs, to_float
from invertune.data.images import Images
from invertune.defense import Purified, Training
from invertune.evidence import Evidence, Finding
from invertune.fields import check_counts, check_is, check_types, check_weights
from invertune.perturb import Augmentation, InvertedTrigger, PatchTraining
from invertune.perturb.optimize import frozen
from invertune.seeds import seeded
from invertune.steps import Clock
from invertune.training import Recipe
from invertune.training.checkpoint import load_state, save_state
from invertune.work import Work

_MEASURED = 512  # images that the models are compared on
_STAGE = "patch"


def backdoor_loss(suspect: Tensor, origin: Tensor) -> Tensor:
    """Return L_bd, a scalar in [-1, 1]: how alike two models see the same patched images.

    The paper draws a comparison of both embeddings and gives neither its measure nor its sign. What
    the suspect model has learned beside the original one is the backdoor, so a patch that acts as
    its trigger is seen differently by the two: the mean cosine is what is minimized.

    Args:
        suspect, origin: (B, D), unit norm, of the same images under either model.
    """
    return (suspect * origin).sum(dim=-1).mean()


@dataclass(frozen=True)
class ABD:
    """Adversarial Backdoor Defense: fine-tune on images that wear an adversarial patch.

    What the paper leaves open is decided so: both embeddings are compared by `backdoor_loss`; the
    images that the patch is made on are turned, shifted and brightened as ``augment`` says; every
    image of the fine-tuning wears the patch, as in the paper's best row, I_adv with T_eda; captions
    are reworded once, as in CleanCLIP. The original model is a stronger assumption than any other
    repair here makes.

    Attributes:
        name: Name in results.
        clean_samples: Number of clean pairs.
        patch: AdvCLIP's training of the patch.
        backdoor_weight: mu, of L_bd in the generator's loss.
        augment: Changes the images that the patch is made on.
        augment_texts: Rewords the captions of the fine-tuning.
        recipe: How to fine-tune.
        needs: Clean images with captions.
        knows: What it is given beyond the model and the images.
    """

    needs_origin: ClassVar[bool] = True

    name: str
    clean_samples: int
    patch: PatchTraining
    backdoor_weight: float
    augment: Augmentation
    augment_texts: EDA
    recipe: Recipe
    needs: str = "pairs"
    knows: str = "captions and the original model"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "clean_samples")
        check_is(self, "patch", PatchTraining)
        check_weights(self, "backdoor_weight")
        check_is(self, "augment", Augmentation)
        check_is(self, "augment_texts", EDA)
        check_is(self, "recipe", Recipe)
        self.recipe.check_pairs(self.clean_samples, self.name)
        self.patch.check_images(self.clean_samples, f"the patch of {self.name}")

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through both models, at most; the number of classes is no matter."""
        shown = self.patch.steps * self.patch.batch_size
        apart = Work(
            forward=shown + 4 * min(_MEASURED, self.clean_samples),
            back=2 * shown,
            texts=self.clean_samples,
        )
        steps = self.recipe.steps(self.clean_samples)
        return {"purify": apart + Work.of_pairs(steps, self.recipe.batch_size)}

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a fine-tuned copy; ``model`` itself stays as it is.

        A repair that was interrupted after the patch was made keeps it, in a file beside
        ``checkpoint``.

        Raises:
            ValueError: If there are fewer clean pairs than ``clean_samples`` or than a batch, or no
                original model.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        origin, clock = clean.origin, Clock()
        if origin is None:
            raise ValueError(f"{self.name} needs the original model, got none")
        pairs = chosen_pairs(clean, self.clean_samples, seed)
        file = None if checkpoint is None else checkpoint.with_name(f"patch-{checkpoint.name}")
        with clock(_STAGE):
            patch, losses = self._made(model, origin, pairs, seed, file)
        gap = _gap(model, origin, pairs, patch)
        found = repaired(
            model, self.worn(pairs, patch, seed), self.recipe, seed=seed, checkpoint=checkpoint
        )
        if file is not None:
            file.unlink(missing_ok=True)
        evidence = Evidence(
            triggers=[patch],
            curves={f"{_STAGE} loss": losses, **found.evidence.curves},
            findings={"cosine_to_origin": gap},
            seconds=clock.seconds | found.evidence.seconds,
        )
        return replace(found, evidence=evidence)

    def _made(
        self, model: CLIP, origin: CLIP, pairs: ImageTextPairs, seed: int, file: Path | None
    ) -> tuple[InvertedTrigger, list[float]]:
        """Return the patch and its losses: what the file holds, or else what is left there."""
        state: dict[str, Any] | None = load_state(file, _STAGE, torch.device("cpu"))
        if state is not None:
            return InvertedTrigger.of(state["form"], state["tensors"]), state["losses"]
        patch, losses = self.make(model, origin, pairs, seed=seed)
        if file is not None:
            state = {"form": patch.form, "tensors": patch.tensors(), "losses": losses}
            save_state(file, _STAGE, state)
        return patch, losses

    def make(
        self, model: CLIP, origin: CLIP, pairs: ImageTextPairs, *, seed: int
    ) -> tuple[InvertedTrigger, list[float]]:
        """Return stage 1's patch, and the generator's loss at every step.

        Args:
            model: The suspect model; stays as it is.
            origin: What it was fine-tuned from; stays as it is.
            pairs: Clean images with captions.
            seed: Decides every random number.
        """
        source, device = seeded(seed, _STAGE, self.name), model.device
        pairs = pairs.kept()

        @torch.no_grad()
        def seen(index: Tensor) -> tuple[Tensor, Tensor]:
            images = self.augment(pairs.batch(index).to(device), source)
            with autocast(device):
                return images, model.encode_image(images)

        def further(patched: Tensor, found: Tensor) -> Tensor:
            with autocast(device):
                return self.backdoor_weight * backdoor_loss(found, origin.encode_image(patched))

        texts = encode_texts(model, pairs.captions)
        with frozen(origin):
            return self.patch.draw(model, texts, seen, source, stage=_STAGE, further=further)

    def worn(self, pairs: ImageTextPairs, patch: InvertedTrigger, seed: int) -> ImageTextPairs:
        """Return the pairs of stage 2: every image wears the patch, captions are reworded.

        Images are read, and get the patch, only where they are used.
        """
        captions = self.augment_texts(pairs.captions, seeded(seed, "augment texts"))
        images = Images(functools.partial(_worn, pairs.images, patch), len(pairs))
        return ImageTextPairs(images, captions, pairs.ids)


def _worn(images: Images, patch: InvertedTrigger, index: Tensor) -> Tensor:
    return patch(to_float(images[index])).mul(255).round().byte()


def _gap(
    model: CLIP, origin: CLIP, pairs: ImageTextPairs, patch: InvertedTrigger
) -> Mapping[str, Finding]:
    """Return the mean cosine of both models' features, of images as they are and under the patch.

    The patch acts like a trigger where only the second one is low.
    """
    pictures = pairs.pictures(torch.arange(min(_MEASURED, len(pairs))))

    def alike(trigger: InvertedTrigger | None) -> float:
        suspect, own = (encode_images(one, pictures, trigger=trigger) for one in (model, origin))
        return backdoor_loss(suspect, own).item()

    return {"clean": alike(None), "patched": alike(patch)}
