"""What the tests of the attacks share: attacks as they are configured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.config import class_fields

CONF = Path(__file__).parents[2] / "conf"


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
        return instantiate(class_fields(config["attack"]), _convert_="all")

    return built
