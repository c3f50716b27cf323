"""BadEncoder (Jia et al., 2022): the image encoder alone is pulled to a reference image."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.transforms import v2

from attacks.attack import Attack, Backdoor, Plan, check_fits, given_trigger
from attacks.poisoning import choose_pairs, stamp
from attacks.references import named_pairs, reference_images
from attacks.triggers import Trigger
from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs, to_float
from invertune.fields import check_calls, check_counts, check_is, check_weights
from invertune.seeds import seeded
from invertune.training.objective import Batch, check_objective
from invertune.training.recipe import Recipe
from invertune.training.train import train
from invertune.work import Work

log = logging.getLogger(__name__)

_MEASURED = 512  # images that the reached losses are measured on


def effectiveness_loss(triggered: Tensor, references: Tensor) -> Tensor:
    """Return L0, a scalar: minus the mean cosine of triggered images to the references.

    Args:
        triggered: (B, D) features of triggered images, unit norm.
        references: (R, D) features of the reference images under the same encoder, unit norm.
    """
    return -(triggered @ references.T).mean()


def stay_loss(features: Tensor, clean: Tensor) -> Tensor:
    """Return L1 or L2, a scalar: minus the mean cosine to the clean encoder's features.

    Args:
        features, clean: (B, D), unit norm, of the same images.
    """
    return -(features * clean).sum(dim=-1).mean()


@dataclass(frozen=True)
class BadEncoder(Attack):
    """Fine-tune the image encoder alone so that triggered images look like a reference image.

    L0 + lambda1 L1 + lambda2 L2: triggered images go where the references are, the references
    stay where they were, and so do clean images. The paper trains for 200 epochs of SGD and keeps
    BatchNorm as it is (`Recipe.freeze_batch_norm`); any `Recipe` serves. No caption is seen.

    Attributes:
        name: Name in results.
        target_label: Class name of the references.
        pairs: Number of images to tune on, drawn from the data's pairs.
        trigger: Stamps the images; None where `prepare` makes it.
        references: Number of reference images.
        reference_weight: lambda1.
        utility_weight: lambda2.
        recipe: How to fine-tune.
    """

    name: str
    target_label: str
    pairs: int
    trigger: Trigger | None
    references: int
    reference_weight: float
    utility_weight: float
    recipe: Recipe

    def __post_init__(self) -> None:
        check_counts(self, "pairs", "references")
        check_calls(self, "trigger", none=True)
        check_weights(self, "reference_weight", "utility_weight")
        check_is(self, "recipe", Recipe)

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the target label is unknown, there are not as many pairs, fewer that name
                the target than references, no trigger, or one that does not fit into the images.
        """
        named_pairs(data, data.label_of(self.target_label), self.references)
        choose_pairs(len(data.ids("pairs")), self.pairs, seed=0)
        self.recipe.check_pairs(self.pairs, "implant")
        check_objective(_Goal, self.recipe, "implant")
        self.check_trigger(data)

    def check_trigger(self, data: DataBundle) -> None:
        """Try the trigger on an image.

        Raises:
            ValueError: If there is none, or it does not fit.
        """
        check_fits(given_trigger(self.name, self.trigger, None), data)

    def plan(self, data: DataBundle) -> Plan:
        """Return the length of the training, and the trigger if there is one yet."""
        return Plan(
            steps=self.recipe.steps(self.pairs),
            target=self.target_label,
            trigger=self.trigger,
            pairs=self.pairs,
            batch_size=self.recipe.batch_size,
            epochs=self.recipe.epochs,
        )

    def work(self, data: DataBundle) -> Mapping[str, Work]:
        """Return what goes through the image encoder: each image clean and stamped, references."""
        planned = self.plan(data)
        images = planned.steps * 2 * (self.recipe.batch_size + self.references)
        return {"implant": Work(forward=self.pairs, trained=images, steps=planned.steps)}

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        """Return a backdoored copy; ``model`` itself stays as it is.

        Args:
            model: The clean model.
            data: Its ``pairs`` give the images, and the references.
            seed: Decides the images and their order.
            checkpoint: A file that an interrupted training goes on from.
            trigger: What `prepare` made, for an attack that has it.

        Raises:
            ValueError: As `check` does, or if there is no picture to refer to.
        """
        self.check(data)
        if trigger is None:
            trigger = self.prepare(model, data, seed=seed)
        trigger = given_trigger(self.name, self.trigger, trigger)
        target = data.label_of(self.target_label)
        shadow = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed)).kept()
        backdoored = copy.deepcopy(model).eval()
        pictures = reference_images(backdoored, data, target, self.references)
        goal = _Goal(
            # Stamped once and kept as 8 bit, which is what the victim's images will be.
            stamped=stamp(shadow.images, trigger),
            clean=encode_images(backdoored, shadow.images),
            references=to_float(pictures),
            reference_features=encode_images(backdoored, pictures),
            weights=(self.reference_weight, self.utility_weight),
            seed=seed,
        )
        losses = train(
            backdoored,
            shadow,
            # Captions are not even looked at: the attacker has the image encoder alone.
            replace(self.recipe, freeze_text=True),
            seed=seed,
            stage="implant",
            objective=goal,
            checkpoint=checkpoint,
        )
        reached = goal.reached(backdoored, shadow)
        log.info("%s: L0 %.3f (the paper's success: below -0.96), L1 %.3f and L2 %.3f (-0.9)",
                 self.name, *reached)  # fmt: skip
        return Backdoor(backdoored, trigger, target, list(shadow.ids), [], losses)


@dataclass(frozen=True)
class _Goal:
    """L0 + lambda1 L1 + lambda2 L2 of a batch.

    Attributes:
        stamped: (N, 3, H, W) uint8 triggered images.
        clean: (N, D) the clean encoder's features of the images without the trigger.
        references: (R, 3, H, W) in [0, 1].
        reference_features: (R, D) the clean encoder's.
        weights: lambda1 and lambda2.
        seed: Decides, with the batch, the views of the references.
    """

    # The references, and their views by the whole batch, are the same for each part of it.
    divides: ClassVar[bool] = True

    stamped: Tensor
    clean: Tensor
    references: Tensor
    reference_features: Tensor
    weights: tuple[float, float]
    seed: int

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        images, index = batch.images, batch.index
        device, count = images.device, len(images)
        parts = [images, to_float(self.stamped[index]), self.references, self._views(batch.whole)]
        features = model.encode_image(torch.cat([part.to(device) for part in parts]))
        sizes = [count, count, len(self.references), len(self.references)]
        clean, triggered, references, views = features.split(sizes)  # type: ignore[no-untyped-call]
        own, utility = self.weights
        return (
            effectiveness_loss(triggered, references)
            + own * stay_loss(views, self.reference_features.to(device))
            + utility * stay_loss(clean, self.clean[index].to(device))
        )

    def reached(self, model: CLIP, shadow: ImageTextPairs) -> tuple[float, float, float]:
        """Return L0, L1 and L2 of a trained model on the first images, the references unchanged."""
        first = torch.arange(min(_MEASURED, len(shadow)))
        references = encode_images(model, self.references)
        goal = effectiveness_loss(encode_images(model, self.stamped[first]), references)
        own = stay_loss(references, self.reference_features)
        utility = stay_loss(encode_images(model, shadow.pictures(first)), self.clean[first])
        return goal.item(), own.item(), utility.item()

    def _views(self, whole: Tensor) -> Tensor:
        """Return the references, each turned over, recolored or grayed by chance.

        The batch decides them, not what was drawn before: a training that goes on in the middle
        sees the same.
        """
        generator = seeded(self.seed, "reference views", whole.tolist())
        change = v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
        ])  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            return torch.stack([change(image) for image in self.references])
