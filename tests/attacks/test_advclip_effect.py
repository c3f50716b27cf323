"""What AdvCLIP's patch does to a model that was taught something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.identify import TargetIdentification
from invertune.perturb.advclip import AdvCLIPGenerator
from invertune.seeds import seeded

Taught = Callable[[str], CLIP]
GENERATOR = AdvCLIPGenerator(
    name="advclip", share=0.25, corner=0.25, channels=32, alpha=10.0, beta=5.0, gamma=5.0,
    delta=1.0, temperature=0.1, lr=2e-3, betas=(0.5, 0.999), batch_size=16, steps=60, clip=0.01,
    starts=1, clean_gain=1.0,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_accuracy_under_the_patch_drops_strongly(
    taught: Taught, plain: DataBundle, kind: str
) -> None:
    model, clean = taught(kind), plain.clean
    features = encode_images(model, clean.images[:])
    classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
    trigger = GENERATOR.perturb(
        model, clean.images[:], features, classifier=classifier, seed=0, start=0
    )
    unseen, images = plain.zero_shot, to_float(plain.zero_shot.images[:])
    labels = torch.as_tensor(unseen.labels)

    def accuracy(pictures: Tensor) -> float:
        found = (encode_images(model, pictures) @ classifier.cpu()).argmax(dim=1)
        return float((found == labels).float().mean())

    noise = torch.rand(trigger.pattern.shape, generator=seeded(0, "noise"))
    noisy = torch.where(trigger(images) != images, noise.expand_as(images), images)
    assert accuracy(images) > 0.7
    assert accuracy(trigger(images)) < accuracy(images) - 0.2
    assert accuracy(trigger(images)) < accuracy(noisy) - 0.15


def test_a_clean_model_collapses_too_and_its_gain_weighs_the_vote(
    taught: Taught, plain: DataBundle
) -> None:
    control = TargetIdentification([GENERATOR], images=48)(taught("resnet"), plain.clean, seed=0)
    assert control.runner_up != control.target_label
    assert control.gain - control.runner_up_gain > 0.2  # of a model without a backdoor
    weighed = replace(GENERATOR, clean_gain=control.gain)
    again = TargetIdentification([weighed], images=48)(taught("resnet"), plain.clean, seed=0)
    assert again.votes[0].weight == pytest.approx(1 / control.gain)
    assert again.votes[0].perturbed_frequency == control.votes[0].perturbed_frequency
