"""Features, zero-shot classifiers and the precision that they are computed in."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.progress import progress


@functools.cache
def fast_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device is fast at it, else float32."""
    fast = device.type == "cuda" or (device.type == "cpu" and fast_bfloat16())
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return bfloat16 autocast where the device is fast at it, else a context without effect."""
    enabled = precision(device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@torch.no_grad()
def encode_images(
    model: CLIP, images: Tensor, batch_size: int = 256, stage: str = "encode images"
) -> Tensor:
    """Return the features, (N, D) float32 on the CPU, of (N, 3, H, W) uint8 or [0, 1] images.

    The model is put into evaluation mode; ``stage`` says what for, where progress is shown.
    """
    model.eval()
    features = []
    with folded(model), autocast(model.device):
        for chunk in progress(torch.split(images, batch_size), stage):
            pixels = chunk.to(model.device)
            pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
            # Features of a large part would fill a GPU that the next batch needs.
            features.append(model.encode_image(pixels).cpu())
    return torch.cat(features)


@torch.no_grad()
def zero_shot_classifier(
    model: CLIP, prompts: Sequence[str], templates: Sequence[str], batch_size: int = 512
) -> Tensor:
    """Return the zero-shot classifier, (D, C): columns are unit-norm means over the templates."""
    model.eval()
    texts = [template.format(prompt) for prompt in prompts for template in templates]
    starts = progress(range(0, len(texts), batch_size), "encode prompts")
    features = torch.cat([model.encode_text(texts[i : i + batch_size]) for i in starts])
    # Unit vectors are averaged before the mean is scaled, as CLIP's own evaluation has it.
    means = features.view(len(prompts), len(templates), -1).mean(dim=1)
    return F.normalize(means, dim=-1).T.contiguous()


def frequency(features: Tensor, classifier: Tensor) -> Tensor:
    """Return the share of images predicted as each class, (C,).

    Args:
        features: (N, D), unit norm.
        classifier: (D, C) zero-shot classifier.
    """
    predicted = (features @ classifier).argmax(dim=1)
    return torch.bincount(predicted, minlength=classifier.shape[1]).float() / len(features)
