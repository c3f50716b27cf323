"""What most tests share: six pictograms of 32 pixels, and CLIPs of a few weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from invertune.clip.models import CLIP, ModelSpec
from invertune.data.bundle import DataBundle

CONF = Path(__file__).parent.parent / "conf"
CLASSES = {"apple": "apple-whole", "lemon": "lemon", "socks": "socks", "key": "key", "cat": "cat",
           "ice cream": "ice-cream"}  # fmt: skip
SIZES = {"pairs": 48, "clean": 12, "zero_shot": 24, "retrieval": 12}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
TOWERS = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "vit": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
}

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
