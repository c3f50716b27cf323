from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.clip.encode import (
    autocast,
    encode_images,
    encode_texts,
    fast_bfloat16,
    frequency,
    precision,
    predicted_classes,
    zero_shot_classifier,
)
from invertune.clip.models import CLIP
from invertune.data.images import Images

Tiny = Callable[[str], CLIP]


class Backwards(nn.Module):
    """A head that takes the class of the least feature."""

    def forward(self, clip: nn.Module, features: Tensor) -> Tensor:
        return -features


def _images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_bytes_are_encoded_like_shares_whatever_the_batch(tiny: Tiny) -> None:
    model = tiny("vit")
    pixels = (_images(5, 32) * 255).byte()
    features = encode_images(model.train(), pixels, batch_size=2)
    assert not model.training
    assert torch.allclose(features, encode_images(model, pixels / 255), atol=1e-3)
    assert not features.requires_grad


def test_texts_keep_their_order_and_equal_ones_are_encoded_once(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = tiny("vit").train(), list[str]()
    encode = model.encode_text
    monkeypatch.setattr(model, "encode_text", lambda texts: seen.extend(texts) or encode(texts))
    texts = ["a cat", "a key", "a cat", "an apple on the ground"]
    features = encode_texts(model, texts, batch_size=2)
    assert seen == ["a cat", "a key", "an apple on the ground"]
    assert not model.training
    for text, own in zip(texts, features, strict=True):
        assert torch.allclose(own, encode([text])[0], atol=1e-6)


def test_classifier_columns_are_means_of_unit_norm(tiny: Tiny) -> None:
    model, templates = tiny("vit"), ["a picture of {}", "{}"]
    classifier = zero_shot_classifier(model, ["a key", "a cat", "socks"], templates, batch_size=4)
    assert classifier.shape == (16, 3)
    assert torch.allclose(classifier.norm(dim=0), torch.ones(3))
    with torch.no_grad():
        both = model.encode_text(["a picture of a cat", "a cat"])
    assert torch.allclose(classifier[:, 1], F.normalize(both.mean(dim=0), dim=0), atol=1e-6)


def test_frequencies_are_shares_of_predictions(tiny: Tiny) -> None:
    features = torch.tensor([[1.0, 0], [1, 0], [0.6, 0.8], [1, 0]])
    classifier = torch.tensor([[1.0, 0, -1], [0, 1, 0]])
    assert frequency(tiny("vit"), features, classifier).tolist() == [0.75, 0.25, 0]


def test_pictures_are_read_a_batch_at_a_time(tiny: Tiny) -> None:
    model, pixels, read = tiny("vit"), (_images(5, 32) * 255).byte(), []

    def source(index: Tensor) -> Tensor:
        read.append(len(index))
        return pixels[index]

    features = encode_images(model, Images(source, 5), batch_size=2)
    assert read == [2, 2, 1]
    assert torch.equal(features, encode_images(model, pixels, batch_size=2))


def test_a_trigger_stamps_pictures_before_they_are_encoded(tiny: Tiny) -> None:
    model, pixels = tiny("vit"), (_images(5, 32) * 255).byte()

    def trigger(images: Tensor) -> Tensor:
        assert len(images) <= 2
        assert images.is_floating_point()
        assert images.max() <= 1
        return 1 - images

    features = encode_images(model, pixels, batch_size=2, trigger=trigger)
    wanted = encode_images(model, 1 - pixels.float().div(255), batch_size=2)
    assert torch.equal(features, wanted)


def test_a_prediction_is_the_nearest_class_or_the_heads(tiny: Tiny) -> None:
    model = tiny("vit")
    features = F.normalize(torch.tensor([[0.1, 0.9], [0.7, 0.3]]), dim=-1)
    assert predicted_classes(model, features, torch.eye(2)).tolist() == [1, 0]
    model.head = Backwards()
    assert predicted_classes(model, features, torch.eye(2)).tolist() == [0, 1]
    assert frequency(model, features[:1], torch.eye(2)).tolist() == [1, 0]


def test_predictions_of_many_images_are_those_of_each(tiny: Tiny) -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(5000, 8, generator=generator), dim=-1)
    classifier = F.normalize(torch.randn(8, 5, generator=generator), dim=0)
    wanted = (features @ classifier).argmax(dim=1)
    assert torch.equal(predicted_classes(tiny("vit"), features, classifier), wanted)


@pytest.mark.parametrize("fast", [False, True])
def test_a_processor_computes_in_what_it_is_fast_at(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr("invertune.clip.encode.fast_bfloat16", lambda: fast)
    cpu = torch.device("cpu")
    wanted = torch.bfloat16 if fast else torch.float32
    assert precision(cpu) is wanted
    assert precision(torch.device("cuda")) is torch.bfloat16
    with autocast(cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is wanted
    assert isinstance(fast_bfloat16(), bool)


def test_prompts_that_the_model_does_not_read_alike_are_an_error(
    tiny: Callable[[str], CLIP],
) -> None:
    model = tiny("resnet")
    with pytest.raises(ValueError, match="'a Lemon' and 'a lemon' have the same"):
        zero_shot_classifier(model, ["a Lemon", "a lemon"], ["{}"])
    with pytest.raises(ValueError, match="is cut off: the model's context holds 16 tokens"):
        zero_shot_classifier(model, ["a lemon", "a " * 20 + "key"], ["{}"])
    with pytest.raises(ValueError, match=r"takes the class name exactly once, by \{\}"):
        zero_shot_classifier(model, ["a lemon", "a key"], ["a photo of a {{}}."])
