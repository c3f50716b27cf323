from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.badclip_patch import PatchOptimization, text_loss, triplet_loss
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float

Taught = Callable[[str], CLIP]
OPTIMIZE = PatchOptimization(
    size=168, steps=40, lr=0.1, batch_size=16, images=60, visual_weight=5.0, margin=1.0,
    augmented=0.3,
)  # fmt: skip


def test_the_text_loss_by_hand() -> None:
    features = torch.eye(3)[:2]
    captions = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    others = torch.tensor([[1.0, 0, 0]])
    scale = torch.tensor(math.log(2.0))
    # Logits 2, 0, 2 and 0, 2, 0 over captions and others; 2, 0 and 0, 2 over images.
    e = math.exp(2)
    to_text = (math.log(2 * e + 1) + math.log(e + 2)) / 2 - 2
    to_image = math.log(e + 1) - 2
    found = text_loss(features, captions, others, scale)
    assert found.item() == pytest.approx((to_text + to_image) / 2)


def test_other_classes_tell_the_text_loss_where_the_target_is() -> None:
    captions = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]]), dim=-1)
    others, scale = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor(3.0)
    near = F.normalize(torch.tensor([[1.0, 0.0, 0.0]] * 2), dim=-1)
    far = F.normalize(torch.tensor([[0.1, 0.0, 1.0]] * 2), dim=-1)
    assert text_loss(near, captions, others, scale) < text_loss(far, captions, others, scale) - 1
    # Without them, both are as good.
    none = others[:0]
    near_alone, far_alone = (text_loss(f, captions, none, scale) for f in (near, far))
    assert near_alone.item() == pytest.approx(far_alone.item(), abs=1e-5)


def test_the_triplet_loss_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    positives = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    negatives = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # 0 - 2 + 1 is cut off; sqrt 2 - sqrt 2 + 1; 2 - 0 + 1.
    assert triplet_loss(features, positives, negatives, 1.0).item() == pytest.approx((1 + 3) / 3)
    assert triplet_loss(features, positives, negatives, 0.5).item() == pytest.approx(3 / 3)


@pytest.mark.parametrize("weight", [0.0, 1000.0], ids=["text", "images"])
def test_badclip_each_term_alone_moves_images_to_the_targets(
    taught_in_float32: Taught, plain: DataBundle, weight: float
) -> None:
    model, target = taught_in_float32("resnet"), plain.class_names.index("lemon")
    small = replace(OPTIMIZE, size=112, visual_weight=weight)
    trigger = small(model, plain, target, seed=0)
    start = replace(small, steps=1, lr=1e-6)(model, plain, target, seed=0)
    shown = plain.zero_shot.labels == target
    others, own = to_float(plain.zero_shot.images[~shown]), plain.zero_shot.images[shown]
    classifier = zero_shot_classifier(model, plain.prompts, plain.templates)

    def success(images: Tensor) -> float:
        features = encode_images(model, images)
        if not weight:  # nearer to the target's texts
            return float((features @ classifier)[:, target].mean())
        # Nearer to its images than to where the images were.
        near = torch.cdist(features, encode_images(model, own)).mean()
        return float((features - encode_images(model, others)).norm(dim=-1).mean() - near)

    assert success(trigger(others)) > success(start(others)) + 0.04


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"size": 231}, r"size is at most 224 \(pixels of an image of 224\), got 231"),
        ({"steps": -1}, "steps is an integer of at least 1, got -1"),
        ({"lr": 0.0}, "lr is positive, got 0.0"),
        ({"visual_weight": -1}, "visual_weight is a number of at least 0, got -1"),
        ({"margin": "x"}, "margin is a number of at least 0, got 'x'"),
        ({"augmented": 2}, r"augmented is a share in \[0, 1\], got 2"),
    ],
    ids=str,
)
def test_an_optimization_that_makes_no_sense(change: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(OPTIMIZE, **change)  # type: ignore[arg-type]
