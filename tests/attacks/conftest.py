"""What the tests of the attacks share: configured attacks, and CLIPs that tell six colors apart."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from invertune.clip.models import CLIP, ModelSpec
from invertune.data.bundle import DataBundle, ImageTextPairs, LabeledImages, RetrievalSet
from invertune.data.captions import with_article
from invertune.training.recipe import Recipe
from invertune.training.train import train

CONF = Path(__file__).parents[2] / "conf"
COLORS = {"apple": (220, 30, 30), "lemon": (240, 230, 40), "leaf": (30, 160, 60),
          "whale": (40, 60, 210), "egg": (235, 235, 235), "coal": (20, 20, 20)}  # fmt: skip
TEMPLATES = ("a picture of {}", "{}", "this is {}")
SIDE, PAIRS = 32, 96


@pytest.fixture(scope="session")
def configured() -> Callable[[str], Any]:
    """Return the attack of a YAML, as ``attack=NAME seed=3`` has it."""

    @functools.cache
    def built(name: str) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(
                compose("config", [f"attack={name}", "seed=3"]), resolve=True
            )
        assert isinstance(config, dict)
        return instantiate(config["attack"], _convert_="all")

    return built


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
        "plain", names, tuple(words), TEMPLATES, SIDE, pairs, lambda: clean, lambda: test, retrieval
    )


def _ids(part: str, count: int) -> Sequence[str]:
    return [f"{part} {i}" for i in range(count)]


@pytest.fixture(scope="session")
def taught(tiny_spec: Callable[[str], ModelSpec], plain: DataBundle) -> Callable[[str], CLIP]:
    """Return a new tiny CLIP that knows most of the colors, ``resnet`` or ``vit``."""

    @functools.cache
    def learned(kind: str) -> CLIP:
        model = tiny_spec(kind).build(0)
        recipe = Recipe(10, 24, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=1e-2)
        train(model, plain.pairs, recipe, seed=0, stage="teach")
        return model.eval()

    return lambda kind: copy.deepcopy(learned(kind))


@pytest.fixture
def state() -> Callable[[CLIP], dict[str, Tensor]]:
    """Return copies of all tensors of a model by name, those that no file keeps included."""

    def copied(model: CLIP) -> dict[str, Tensor]:
        named = [*model.named_parameters(), *model.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in named}

    return copied
