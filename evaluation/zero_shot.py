"""Zero-shot classification: clean accuracy and attack success rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.intervals import Rate, rate
from invertune.clip.encode import encode_images, predicted_classes, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import LabeledImages
from invertune.data.images import Images

Trigger = Callable[[Tensor], Tensor]


def encode_triggered(
    model: CLIP, images: Tensor | Images, trigger: Trigger | None, batch_size: int = 256
) -> Tensor:
    """Return the features, (N, D) float32 on the CPU, of images under a trigger.

    Args:
        model: Put into evaluation mode.
        images: (N, 3, H, W) uint8, or `Images`, of which a batch is read at a time.
        trigger: Stamps float images in [0, 1], batch by batch and on the CPU, where poisoning does
            it too; None leaves them clean.
        batch_size: Images at a time.

    Raises:
        ValueError: If a feature is not finite, which would rank first wherever it is compared.
    """
    if len(images) == 0:
        return torch.empty(0, 0)
    kind = "clean" if trigger is None else "triggered"
    stage = f"evaluate {kind} images"
    return encode_images(model, images, batch_size, trigger, stage)


def predictions(
    model: CLIP,
    images: Tensor | Images,
    classifier: Tensor,
    trigger: Trigger | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Return the predicted class of every image, (N,) int64 on the CPU.

    Args:
        model: Put into evaluation mode.
        images: (N, 3, H, W) uint8, or `Images`, of which a batch is read at a time.
        classifier: (D, C) from `zero_shot_classifier`.
        trigger: Stamps the images first; None leaves them clean.
        batch_size: Images at a time.
    """
    if len(images) == 0:
        return torch.empty(0, dtype=torch.int64)
    features = encode_triggered(model, images, trigger, batch_size)
    return predicted_classes(model, features, classifier)


NO_PREDICTION = -1


@dataclass(frozen=True)
class Predictions:
    """The class that a model gives to every test image.

    Attributes:
        labels: (N,) true classes.
        clean: (N,) predicted classes of the clean images.
        triggered: (N,) predicted classes of the triggered images; `NO_PREDICTION` for images of
            the target class, and everywhere without a trigger.
    """

    labels: Tensor
    clean: Tensor
    triggered: Tensor

    def rates(self, target_label: int | None) -> dict[str, Rate | None]:
        """Return the rates of zero-shot classification; all but ``ca`` are None without a target.

        ``ca`` is the share of all images predicted as their own class, and of the images of other
        classes than the target: ``asr``, the share predicted as the target when triggered,
        ``target_rate``, the same when clean, and ``own_class``, the share predicted as their own
        class when triggered.
        """
        scores: dict[str, Rate | None] = {
            "ca": _share(self.clean == self.labels),
            "asr": None,
            "target_rate": None,
            "own_class": None,
        }
        if target_label is None:
            return scores
        others = self.labels != target_label
        triggered = self.triggered[others]
        scores["asr"] = _share(triggered == target_label)
        scores["target_rate"] = _share(self.clean[others] == target_label)
        scores["own_class"] = _share(triggered == self.labels[others])
        return scores


def evaluate_zero_shot(
    model: CLIP,
    images: LabeledImages,
    prompts: Sequence[str],
    templates: Sequence[str],
    trigger: Trigger | None,
    target_label: int | None,
    batch_size: int = 256,
) -> Predictions:
    """Return the predicted classes of clean and of triggered images.

    Args:
        model: Put into evaluation mode.
        images: Labeled test images.
        prompts: C class names as they stand in a sentence.
        templates: Prompt templates with ``{}``.
        trigger: Stamps images; None for a model without a backdoor.
        target_label: Class that triggered images are pulled to, in [0, C); None likewise.
        batch_size: Images at a time.

    Raises:
        ValueError: If only one of trigger and target is given, or the target is no class.
    """
    if (trigger is None) != (target_label is None):
        raise ValueError(f"trigger and target_label go together, got {trigger} and {target_label}")
    if target_label is not None and not 0 <= target_label < len(prompts):
        raise ValueError(f"target_label is a class in [0, {len(prompts)}), got {target_label}")
    classifier = zero_shot_classifier(model, prompts, templates)
    clean = predictions(model, images.images, classifier, batch_size=batch_size)
    triggered = torch.full_like(clean, NO_PREDICTION)
    if trigger is not None:
        others = torch.as_tensor(images.labels != target_label)
        triggered[others] = predictions(
            model, images.images.take(others), classifier, trigger, batch_size
        )
    return Predictions(images.labels, clean, triggered)


def _share(hits: Tensor) -> Rate:
    return rate(int(hits.sum()), len(hits))
