from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from invertune.clip.preprocessing import Preprocessing
from invertune.clip.spec import ModelSpec

HALF = Preprocessing([0.5] * 3, [0.25] * 3, "squash", "bilinear")  # type: ignore[arg-type]
ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def test_the_model_normalizes_by_its_own_mean_and_deviation() -> None:
    theirs = ModelSpec("m", architecture=ARCHITECTURE, preprocessing=HALF).build(0).eval()
    ours = ModelSpec("m", architecture=ARCHITECTURE).build(0).eval()
    images = torch.rand(2, 3, 32, 32)
    by_hand = (images - 0.5) / 0.25
    mean, std = (getattr(ours, part) for part in ("mean", "std"))
    with torch.no_grad():
        found, wanted = theirs.encode_image(images), ours.encode_image(by_hand * std + mean)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert (theirs.preprocessing, ours.preprocessing) == (HALF, Preprocessing())
    assert ours.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def test_open_clips_weights_come_with_their_own() -> None:
    model = ModelSpec("m", open_clip_name="ViT-B-32").build()
    assert model.preprocessing == Preprocessing()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean": [0.5, 0.5]}, "mean is three numbers"),
        ({"mean": "abc"}, "mean is three numbers"),
        ({"std": [0.5, 0.5, float("nan")]}, "std is three numbers"),
        ({"std": [0.5, 0.0, 0.5]}, "std is three positive numbers"),
        ({"resize_mode": "crop"}, "resize_mode is one of shortest, longest, squash, got 'crop'"),
        ({"interpolation": None}, "interpolation is one of bicubic, bilinear, got None"),
    ],
)
def test_what_no_model_has_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Preprocessing(**fields)
