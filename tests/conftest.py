"""What most tests share: pictograms or plain colors of 32 pixels, and CLIPs of a few weights."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle, ImageTextPairs, LabeledImages, RetrievalSet
from invertune.data.captions import with_article
from invertune.training.recipe import Recipe
from invertune.training.train import train

CONF = Path(__file__).parent.parent / "conf"
CLASSES = {"apple": "apple-whole", "lemon": "lemon", "socks": "socks", "key": "key", "cat": "cat",
           "ice cream": "ice-cream"}  # fmt: skip
SIZES = {"pairs": 48, "clean": 12, "zero_shot": 24, "retrieval": 12}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
TOWERS = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "vit": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
}

COLORS = {"apple": (220, 30, 30), "lemon": (240, 230, 40), "leaf": (30, 160, 60),
          "whale": (40, 60, 210), "egg": (235, 235, 235), "coal": (20, 20, 20)}  # fmt: skip
TEMPLATES = ("a picture of {}", "{}", "this is {}")
SIDE, PAIRS = 32, 96

torch.set_num_threads(1)  # tiny tensors only wait for a second thread


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the real run: of two workers one is busy with it while the other does the rest."""
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)


@pytest.fixture(scope="session")
def make_data() -> Callable[..., DataBundle]:
    """Return ``data=icons`` with six classes of 32 pixels, and with other fields where given."""

    def make(**changes: Any) -> DataBundle:
        config = OmegaConf.to_container(OmegaConf.load(CONF / "data" / "icons.yaml"))
        assert isinstance(config, dict)
        small = {"classes": CLASSES, "image_size": 32, "sizes": SIZES}
        return instantiate({**config, **small, **changes}, _convert_="all").load()

    return make


@pytest.fixture(scope="session")
def data(make_data: Callable[..., DataBundle]) -> DataBundle:
    """Return one such data set for all tests; none may change it."""
    return make_data()


@pytest.fixture(scope="session")
def tiny_spec() -> Callable[[str], ModelSpec]:
    """Return the spec of a CLIP of a few weights, ``resnet`` or ``vit``."""

    def spec(kind: str) -> ModelSpec:
        architecture = {
            "embed_dim": 16, "quick_gelu": True, "vision_cfg": TOWERS[kind], "text_cfg": TEXT,
        }  # fmt: skip
        return ModelSpec(f"tiny {kind}", architecture=architecture)

    return spec


@pytest.fixture(scope="session")
def _built(tiny_spec: Callable[[str], ModelSpec]) -> dict[str, CLIP]:
    return {kind: tiny_spec(kind).build(0).eval() for kind in TOWERS}


@pytest.fixture
def tiny(_built: dict[str, CLIP]) -> Callable[[str], CLIP]:
    """Return a new tiny CLIP with the weights of seed 0, ``resnet`` or ``vit``."""
    return lambda kind: copy.deepcopy(_built[kind])


def _colored(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % len(COLORS)
    base = torch.tensor(list(COLORS.values()))[labels].view(count, 3, 1, 1).float()
    shade = 30 * torch.randn(count, 3, 1, 1, generator=generator)
    noise = 25 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    return (base + shade + noise).clamp(0, 255).byte(), labels


@pytest.fixture(scope="session")
def plain() -> DataBundle:
    """Return noisy squares of six colors, which a tiny CLIP learns in seconds."""
    names, generator = tuple(COLORS), torch.Generator().manual_seed(0)
    images, labels = _colored(PAIRS, generator)
    words = [with_article(name) for name in names]
    captions = [
        TEMPLATES[i // len(names) % len(TEMPLATES)].format(words[label])
        for i, label in enumerate(labels.tolist())
    ]

    def labeled(part: str, count: int) -> LabeledImages:
        return LabeledImages(*_colored(count, generator), ids=_ids(part, count))

    def pairs() -> ImageTextPairs:
        return ImageTextPairs(images, captions, _ids("pair", PAIRS))

    def retrieval() -> RetrievalSet:
        return RetrievalSet(images[:6], [[caption] * 5 for caption in captions[:6]], _ids("r", 6))

    clean, test = labeled("clean", 12), labeled("test", 60)
    return DataBundle(
        "plain",
        names,
        tuple(words),
        TEMPLATES,
        SIDE,
        pairs,
        lambda: clean,
        lambda: test,
        retrieval,
        make_clean_captions=lambda: [f"this is {words[label]}" for label in clean.labels.tolist()],
    )


def _ids(part: str, count: int) -> Sequence[str]:
    return [f"{part} {i}" for i in range(count)]


@pytest.fixture(scope="session")
def taught(tiny_spec: Callable[[str], ModelSpec], plain: DataBundle) -> Callable[[str], CLIP]:
    """Return a new tiny CLIP that knows most of the colors, ``resnet`` or ``vit``."""

    learned = functools.cache(lambda kind: _teach(tiny_spec(kind), plain))
    return lambda kind: copy.deepcopy(learned(kind))


def _teach(spec: ModelSpec, plain: DataBundle) -> CLIP:
    model = spec.build(0)
    recipe = Recipe(10, 24, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=1e-2)
    train(model, plain.pairs, recipe, seed=0, stage="teach")
    return model.eval()


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 on every processor, for tests of what bfloat16 rounds away."""
    monkeypatch.setattr("invertune.clip.encode.fast_bfloat16", lambda: False)


@pytest.fixture
def taught_in_float32(
    float32: None, tiny_spec: Callable[[str], ModelSpec], plain: DataBundle
) -> Callable[[str], CLIP]:
    """Return what `taught` does, taught in float32 on every processor."""
    return lambda kind: _teach(tiny_spec(kind), plain)


@pytest.fixture
def state() -> Callable[[CLIP], dict[str, Tensor]]:
    """Return copies of all tensors of a model by name, those that no file keeps included."""

    def copied(model: CLIP) -> dict[str, Tensor]:
        named = [*model.named_parameters(), *model.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in named}

    return copied
