from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.detectors.clip_score import ClipScore


def test_it_is_the_negative_cosine(taught: Callable[[str], CLIP], plain: DataBundle) -> None:
    model, pairs = taught("vit"), plain.pairs
    found = ClipScore("clip_score", 7).scores(model, pairs, seed=0)
    images = encode_images(model, pairs.images)
    with torch.no_grad():
        expected = [-float(images[i] @ model.encode_text([pairs.captions[i]])[0]) for i in (0, 50)]
    assert torch.allclose(found[[0, 50]], torch.tensor(expected), atol=1e-5)
    assert (found.shape, found.dtype) == ((len(pairs),), torch.float32)


def test_wrong_captions_are_suspicious(taught: Callable[[str], CLIP], plain: DataBundle) -> None:
    captions = list(plain.pairs.captions)
    captions[:6] = captions[1:7]  # of other classes
    found = ClipScore("clip_score", 32).scores(
        taught("resnet"), replace(plain.pairs, captions=captions), seed=0
    )
    assert found[:6].mean() > found[6:].mean()
