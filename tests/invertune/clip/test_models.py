from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from experiments.stages.parts import build
from invertune.clip.models import CLIP

Tiny = Callable[[str], CLIP]
MODELS = Path(__file__).parents[3] / "conf" / "model"
MINIS = sorted(path.stem for path in MODELS.glob("*_mini.yaml"))
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def _images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MINIS)
def test_every_mini_builds(name: str) -> None:
    loaded = OmegaConf.to_container(OmegaConf.load(MODELS / f"{name}.yaml"), resolve=True)
    assert isinstance(loaded, dict)
    spec = build(loaded)
    model = spec.build(0).eval()
    assert (model.name, model.image_size) == (name, 64)
    with torch.no_grad():
        images, texts = model.encode_image(_images(2, 64)), model.encode_text(["a key", "a cat"])
    assert images.shape == texts.shape == (2, 128)
    assert spec.pretrain.epochs > 0


@both
def test_features_have_unit_norm(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    with torch.no_grad():
        images, texts = model.encode_image(_images(3, 32)), model.encode_text(["a", "b c", "d"])
    for features in (images, texts):
        assert features.dtype == torch.float32
        assert torch.allclose(features.norm(dim=-1), torch.ones(3))


@both
def test_images_of_another_size_are_one_clear_line(tiny: Tiny, kind: str) -> None:
    with pytest.raises(ValueError, match="takes images of 32 x 32 pixels, got 32 x 16"):
        tiny(kind).encode_image(_images(2, 32)[:, :, :16])


@both
def test_pixels_are_normalized_once(tiny: Tiny, kind: str) -> None:
    model, images = tiny(kind), _images(3, 32)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = model.clip.encode_image((images - mean) / std, normalize=True)
        assert torch.allclose(model.encode_image(images), expected, atol=1e-6)


def test_equal_texts_have_equal_tokens(tiny: Tiny) -> None:
    model = tiny("vit")
    tokens = model.tokenize(["a key", "a cat", "a key"])
    assert tokens.shape == (3, 16)
    assert torch.equal(tokens[0], tokens[2])
    assert torch.equal(tokens[1:2], model.tokenizer(["a cat"]))


def test_a_resnet_records_its_stages(tiny: Tiny) -> None:
    model = tiny("resnet")
    assert list(model.visual_layers()) == ["layer1", "layer2", "layer3", "layer4"]
    with torch.no_grad(), model.record(["layer1", "layer4"]) as outputs:
        model.encode_image(_images(2, 32))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "layer1": (2, 32, 8, 8), "layer4": (2, 256, 1, 1),
    }  # fmt: skip


def test_a_vit_records_its_blocks(tiny: Tiny) -> None:
    model = tiny("vit")
    assert list(model.visual_layers()) == ["block0", "block1"]
    with torch.no_grad(), model.record(["block1"]) as outputs:
        model.encode_image(_images(2, 32))
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {"block1": (2, 17, 16)}
    outputs.clear()
    with torch.no_grad():
        model.encode_image(_images(2, 32))
    assert not outputs  # nothing is recorded after the block


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_padding_is_cut_off_without_a_trace(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    tokens = model.tokenize(["a cat", "a photo of a dog"])
    length = int(tokens.argmax(dim=1).max()) + 1
    assert length < tokens.shape[1]
    whole = torch.nn.functional.normalize(model.clip.encode_text(tokens), dim=-1)  # type: ignore[operator]
    torch.testing.assert_close(model.encode_tokens(tokens), whole)
    model.encode_tokens(tokens).sum().backward()  # type: ignore[no-untyped-call]
    gradient = model.clip.positional_embedding.grad  # type: ignore[union-attr]
    assert gradient[:length].abs().sum(dim=1).min() > 0  # type: ignore[index]
    assert gradient[length:].eq(0).all()  # type: ignore[index]


class Doubled(nn.Module):
    """Return three times the first two features, whatever the classifier is."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))
        self.seen: list[nn.Module] = []

    def forward(self, clip: nn.Module, features: Tensor) -> Tensor:
        self.seen = [clip]
        return self.factor * features[:, :2].double()


def test_similarities_are_to_the_classifier(tiny: Tiny) -> None:
    features, classifier = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert tiny("vit").similarities(features, classifier).tolist() == [
        [pytest.approx(0.6), pytest.approx(-0.8)]
    ]


def test_a_head_classifies_in_place_of_the_classifier(tiny: Tiny) -> None:
    model, head = tiny("vit"), Doubled()
    assert model.head is None
    model.head = head
    features = torch.tensor([[0.6, 0.8, 0.0]])
    with torch.no_grad():
        found = model.similarities(features, torch.full((3, 2), torch.nan))
    assert torch.allclose(found, torch.tensor([[1.8, 2.4]]))
    assert found.dtype == features.dtype
    assert head.seen == [model.clip]
