"""Features, zero-shot classifiers and the precision that they are computed in."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.fast import folded
from invertune.clip.features import check_finite_rows
from invertune.clip.models import CLIP
from invertune.clip.texts import check_prompts
from invertune.data.bundle import to_float
from invertune.data.images import Images
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
    model: CLIP,
    images: Tensor | Images,
    batch_size: int = 256,
    trigger: Callable[[Tensor], Tensor] | None = None,
    stage: str = "encode images",
    unit: bool = True,
) -> Tensor:
    """Return the features, (N, D) float32 on the CPU, of pictures; a batch is read at a time.

    Args:
        model: Put into evaluation mode.
        images: (N, 3, H, W) uint8 or in [0, 1]; `Images` are read batch by batch.
        batch_size: Images at a time.
        trigger: Stamps float images in [0, 1], where they are, before they go to the model's
            device; None leaves them clean.
        stage: What for, where progress is shown.
        unit: Whether features get unit norm; else they are as long as the tower makes them.

    Raises:
        ValueError: If a feature is not finite.
    """
    model.eval()
    encode = model.encode_image if unit else functools.partial(model.encode_image, unit=False)
    features = []
    parts = Images.of(images, len(images)).batches(batch_size)
    count = math.ceil(len(images) / batch_size)
    with folded(model), autocast(model.device):
        for part in progress(parts, stage, total=count):
            pixels = part if trigger is None else trigger(to_float(part))
            pixels = pixels.to(model.device)
            pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
            # Features of a large part would fill a GPU that the next batch needs.
            found = encode(pixels).cpu()
            # A `CLIP` has said so itself, by its name; another kind of model may not.
            features.append(check_finite_rows(found, "the model", "image features", "images"))
    return torch.cat(features)


@torch.no_grad()
def encode_texts(model: CLIP, texts: Sequence[str], batch_size: int = 512) -> Tensor:
    """Return the features of texts, (N, D) float32 on the model's device; equal ones once.

    Args:
        model: Put into evaluation mode.
        texts: N texts, such as captions.
        batch_size: Texts at a time.

    Raises:
        ValueError: If a feature is not finite.
    """
    model.eval()
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    unique = list(place)
    starts = progress(range(0, len(unique), batch_size), "encode texts")
    features = torch.cat([model.encode_text(unique[i : i + batch_size]) for i in starts])
    return features[[place[text] for text in texts]]


@torch.no_grad()
def zero_shot_classifier(
    model: CLIP, prompts: Sequence[str], templates: Sequence[str], batch_size: int = 512
) -> Tensor:
    """Return the zero-shot classifier, (D, C): columns are unit-norm means over the templates.

    Args:
        model: Put into evaluation mode.
        prompts: C class names as they stand in a sentence.
        templates: With ``{}`` for one of them.
        batch_size: Texts at a time.

    Raises:
        ValueError: If a template takes the prompt not exactly once, or if the model cannot tell two
            prompts apart, or read one to its end, or if a text feature is not finite.
    """
    model.eval()
    check_prompts(model.tokenizer, prompts, templates)
    texts = [template.format(prompt) for prompt in prompts for template in templates]
    starts = progress(range(0, len(texts), batch_size), "encode prompts")
    features = torch.cat([model.encode_text(texts[i : i + batch_size]) for i in starts])
    check_finite_rows(features, "the model", "text features", "prompts", texts)
    # Unit vectors are averaged before the mean is scaled, as CLIP's own evaluation has it.
    means = features.view(len(prompts), len(templates), -1).mean(dim=1)
    return F.normalize(means, dim=-1).T.contiguous()


@torch.no_grad()
def predicted_classes(model: CLIP, features: Tensor, classifier: Tensor) -> Tensor:
    """Return the class that the model takes each image for, (N,) int64.

    Its own head decides where it comes with one (`CLIP.similarities`), else the classifier.

    Args:
        model: In evaluation mode.
        features: (N, D), unit norm; the answer is on their device.
        classifier: (D, C) zero-shot classifier.
    """
    # In parts: the logits of 50,000 images and 1,000 classes are 200 MB.
    weights, parts = classifier.to(features.device), features.split(4096)  # type: ignore[no-untyped-call]
    return torch.cat([model.similarities(part, weights).argmax(dim=1) for part in parts])


def frequency(model: CLIP, features: Tensor, classifier: Tensor) -> Tensor:
    """Return the share of images predicted as each class, (C,).

    Args:
        model: In evaluation mode.
        features: (N, D), unit norm.
        classifier: (D, C) zero-shot classifier.
    """
    predicted = predicted_classes(model, features, classifier)
    return torch.bincount(predicted, minlength=classifier.shape[1]).float() / len(features)
