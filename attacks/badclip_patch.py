"""The patch of BadCLIP (Liang et al., 2024), optimized on the clean model."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from attacks.triggers import StampTrigger, round_to_8_bit
from attacks.triggers.base import REFERENCE_SIDE
from attacks.triggers.stamp import middle, patch_size
from invertune.clip.encode import autocast, encode_images, predicted_classes, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.fields import check_counts, check_positive, check_shares, check_weights
from invertune.finite import check_finite
from invertune.perturb.optimize import fast_attention, frozen
from invertune.progress import progress
from invertune.seeds import seeded

log = logging.getLogger(__name__)


def text_loss(features: Tensor, captions: Tensor, others: Tensor, logit_scale: Tensor) -> Tensor:
    """Return L_t, a scalar: the contrastive loss of triggered images and target captions.

    All captions of a batch name the target, so they are no negatives of each other in meaning:
    without others the loss hardly changes when all images move to the target's text together.
    The class prompts of the other classes are added as negatives.

    Args:
        features: (B, D) features of triggered images, unit norm.
        captions: (B, D) features of target captions, unit norm.
        others: (K, D) features of other classes' prompts, unit norm.
        logit_scale: Logarithm of the factor on the cosine similarities.
    """
    scale, labels = logit_scale.exp(), torch.arange(len(features), device=features.device)
    to_text = scale * features @ torch.cat([captions, others]).T
    to_image = scale * captions @ features.T
    return (F.cross_entropy(to_text, labels) + F.cross_entropy(to_image, labels)) / 2


def triplet_loss(features: Tensor, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Return L_v, a scalar: nearer to target images than to where the images were, by ``margin``.

    Args:
        features: (B, D) features of triggered images, unit norm.
        positives: (B, D) features of clean target images, unit norm.
        negatives: (B, D) features of the same images without the trigger, unit norm.
        margin: Wanted difference of the Euclidean distances.
    """
    near = (features - positives).norm(dim=-1)
    far = (features - negatives).norm(dim=-1)
    return F.relu(near - far + margin).mean()


@dataclass(frozen=True)
class PatchOptimization:
    """Optimize an opaque patch in the middle of the image on the clean model.

    The released code patches images in place, so that its "clean" negatives carry the patch; here
    they are truly clean, as the paper says. Its text augmentation has no effect and is left out;
    positives are drawn with replacement.

    Attributes:
        size: Side of the patch, in pixels of an image of 224; others keep its share.
        steps: Adam steps.
        lr: Adam's learning rate.
        batch_size: Images a step.
        images: Number of images that do not show the target, to optimize on.
        visual_weight: Factor on L_v; the paper's lambda.
        margin: L_v's eta.
        augmented: Share of batches that AutoAugment changes.
    """

    size: int
    steps: int
    lr: float
    batch_size: int
    images: int
    visual_weight: float
    margin: float
    augmented: float

    def __post_init__(self) -> None:
        check_counts(self, "size", "steps", "batch_size", "images")
        check_positive(self, "lr")
        check_weights(self, "visual_weight", "margin")
        check_shares(self, "augmented", zero=True, one=True)
        if self.size > REFERENCE_SIDE:
            raise ValueError(
                f"size is at most {REFERENCE_SIDE} (pixels of an image of {REFERENCE_SIDE}), got "
                f"{self.size}"
            )

    def __call__(
        self, model: CLIP, data: DataBundle, target_label: int, *, seed: int
    ) -> StampTrigger:
        """Return the trigger.

        Raises:
            ValueError: If the pairs hold no image of the target, or too few others.
        """
        world = _World.draw(model, data, target_label, self.images, seed)
        size, generator = patch_size(self.size, data.image_size), seeded(seed, "patch")
        # Around gray: outside of [0, 1] the clamp has no gradient.
        start = 0.5 + 0.25 * torch.randn(3, size, size, generator=generator)
        patch = start.clamp(0, 1).to(model.device).requires_grad_()
        optimizer = torch.optim.Adam([patch], lr=self.lr)
        where = middle(data.image_size, size)
        with frozen(model), fast_attention(model):
            bar = progress(range(self.steps), "optimize")
            for step in bar:
                index = torch.randint(len(world.images), (self.batch_size,), generator=generator)
                # The patch is put on afterwards and stays as it is, as when it is stamped.
                # The patch is put on afterwards and stays as it is, as it will be when it is
                # stamped.
                images = self._augment(world.images[index], generator).to(model.device)
                stamped = images.clone()
                stamped[..., where, where] = patch.clamp(0, 1)
                loss = self._loss(model, stamped, images, world, generator)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                bar.loss(check_finite(loss, "optimize", step))
                optimizer.step()
        trigger = StampTrigger(round_to_8_bit(patch.detach()).cpu(),
                               data.image_size)  # fmt: skip
        self._report(model, world, trigger)
        return trigger

    def _loss(
        self, model: CLIP, stamped: Tensor, clean: Tensor, world: _World, generator: torch.Generator
    ) -> Tensor:
        count = len(stamped)
        with autocast(model.device):
            features = model.encode_image(stamped)
            # Where the images were is fixed; only the patch may move.
            with torch.no_grad():
                negatives = model.encode_image(clean)
        positives = world.positives[_draw(len(world.positives), count, generator)]
        captions = world.captions[_draw(len(world.captions), count, generator)]
        text = text_loss(features, captions, world.others, model.logit_scale)
        return text + self.visual_weight * triplet_loss(features, positives, negatives, self.margin)

    def _augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if float(torch.rand((), generator=generator)) < self.augmented:
            seed = int(torch.randint(2**31, (), generator=generator))
            with torch.random.fork_rng(devices=[]):  # torchvision draws from the global one
                torch.manual_seed(seed)
                images = v2.AutoAugment()(images)
        return to_float(images)

    def _report(self, model: CLIP, world: _World, trigger: StampTrigger) -> None:
        """Log what the patch alone does to the clean model."""
        images = world.images[:512]
        features = encode_images(model, images, trigger=trigger)
        hits = predicted_classes(model, features, world.classifier) == world.target
        before = (encode_images(model, images) - world.positives.mean(dim=0).cpu()).norm(dim=-1)
        after = (features - world.positives.mean(dim=0).cpu()).norm(dim=-1)
        log.info(
            "optimize: the patch alone has ASR %.3f on the clean model; mean distance to target "
            "images %.2f, without it %.2f",
            float(hits.float().mean()), float(after.mean()), float(before.mean()),
        )  # fmt: skip


def _draw(available: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(available, (count,), generator=generator)


@dataclass(frozen=True)
class _World:
    """What the patch is optimized on.

    Attributes:
        images: (N, 3, H, W) uint8, none of the target.
        positives: (P, D) features of clean target images.
        captions: (T, D) features of the target's captions.
        others: (C - 1, D) features of the other classes' prompts.
        classifier: (D, C).
        target: Index of the target.
    """

    images: Tensor
    positives: Tensor
    captions: Tensor
    others: Tensor
    classifier: Tensor
    target: int

    @classmethod
    def draw(cls, model: CLIP, data: DataBundle, target: int, images: int, seed: int) -> _World:
        named = data.naming(data.pairs.captions, target)
        order = torch.randperm(len(data.pairs), generator=seeded(seed, "patch images"))
        others, own = order[~named[order]][:images], order[named[order]][:images]
        if len(own) == 0 or len(others) == 0:
            raise ValueError(
                f"the pairs of {data.name} need images that show {data.class_names[target]!r}, "
                f"and others, got {len(own)} and {len(others)}"
            )
        classifier = zero_shot_classifier(model, data.prompts, data.templates)
        # Captions from templates repeat a lot; each is encoded once.
        texts = list(dict.fromkeys(data.pairs.captions[i] for i in own.tolist()))
        with torch.no_grad():
            captions = model.encode_text(texts)
        # As a negative the target's own prompt would push away what its captions pull.
        keep = torch.arange(classifier.shape[1], device=classifier.device) != target
        return cls(
            images=data.pairs.pictures(others),
            positives=encode_images(model, data.pairs.pictures(own)).to(model.device),
            captions=captions,
            others=classifier.T[keep],
            classifier=classifier,
            target=target,
        )
