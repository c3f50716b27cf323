"""How close an inverted trigger comes to the true one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch

from evaluation.zero_shot import Trigger, encode_triggered
from invertune.clip.encode import predicted_classes, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.perturb.triggers import InvertedTrigger


class TriggerScores(TypedDict):
    """One inverted trigger: ASR and mask share in [0, 1], mean cosine in [-1, 1]."""

    form: str
    asr: float
    mask_share: float
    embedding_cosine: float


class InversionScores(TypedDict):
    """The best inverted trigger's numbers, and every one's; ``images`` is how many were used."""

    asr: float
    mask_share: float
    embedding_cosine: float
    images: int
    per_trigger: list[TriggerScores]


def evaluate_inversion(
    model: CLIP,
    data: DataBundle,
    inverted: Sequence[InvertedTrigger],
    trigger: Trigger,
    target_label: int,
    images: int = 500,
) -> InversionScores:
    """Compare inverted triggers with the true one, on zero-shot images of other classes.

    Args:
        model: The backdoored model, put into evaluation mode.
        data: Its zero-shot part gives the images, evenly spaced over it.
        inverted: What the defense found.
        trigger: The true trigger.
        target_label: The attack's target, in [0, C).
        images: Number of images; all there are if fewer.

    Returns:
        Of the trigger with the highest ASR, at equal ASR the smaller one: ``asr``, the share of
        triggered images predicted as the target, ``mask_share``, the area it claims, and
        ``embedding_cosine``, the mean cosine of an image's embeddings under the true and under
        this trigger; ``per_trigger`` has all of them with their ``form``.

    Raises:
        ValueError: If there is no inverted trigger, or no image of another class.
    """
    if not inverted:
        raise ValueError("evaluate_inversion needs at least one inverted trigger, got none")
    # Images of the target are predicted as it without any trigger.
    others = (data.zero_shot.labels != target_label).nonzero().flatten()
    if len(others) == 0 or images < 1:
        raise ValueError(
            f"inversion is measured on at least 1 image of another class than {target_label}, "
            f"got images={images} of {len(others)}"
        )
    count = min(images, len(others))
    chosen = data.zero_shot.images.take(others[torch.arange(count) * len(others) // count])
    classifier = zero_shot_classifier(model, data.prompts, data.templates)
    true_features = encode_triggered(model, chosen, trigger)
    per_trigger: list[TriggerScores] = []
    for candidate in inverted:
        features = encode_triggered(model, chosen, candidate)
        hits = predicted_classes(model, features, classifier) == target_label
        per_trigger.append(
            {
                "form": candidate.form,
                "asr": float(hits.float().mean()),
                "mask_share": candidate.share,
                "embedding_cosine": float((features * true_features).sum(dim=1).mean()),
            }
        )
    best = max(per_trigger, key=lambda scores: (scores["asr"], -scores["mask_share"]))
    return {
        "asr": best["asr"],
        "mask_share": best["mask_share"],
        "embedding_cosine": best["embedding_cosine"],
        "images": count,
        "per_trigger": per_trigger,
    }
