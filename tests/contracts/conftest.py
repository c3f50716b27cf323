"""What the contract tests share: every YAML of ``conf``, and the same with little work to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.stages.parts import build

CONF = Path(__file__).parents[2] / "conf"
# A number under one of these names is at most this, wherever it stands.
MOST = {"pairs": 24, "clean_samples": 10, "batch_size": 8, "epochs": 1, "steps": 2, "starts": 1,
        "images": 10, "held": 2, "samples": 8, "shots": 2, "warmup": 1, "codes_a_step": 16,
        "noise_a_step": 8, "channels": 16, "keep_best": 1, "refresh_every": 1,
        "draws": 2, "every": 1, "in_modal_epochs": 0, "slow_epochs": 0, "clusters": 3,
        "neighbors": 2}  # fmt: skip
FEW = 3  # of the budgets of a trigger, the smallest


def shrunk(value: Any, name: str = "") -> Any:
    """Return a config with little work to do; what it does stays the same."""
    if isinstance(value, dict):
        return {key: shrunk(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [shrunk(item) for item in (value[-FEW:] if name == "budgets" else value)]
    if name in MOST and isinstance(value, int | float):
        return min(value, MOST[name])
    return value


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """Return the part of a group as a run has it, from the YAML of a choice."""

    def part(group: str, choice: str, *overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", [f"{group}={choice}", *overrides])
        plain = OmegaConf.to_container(config[group], resolve=True, throw_on_missing=True)
        assert isinstance(plain, dict)
        part = {str(key): item for key, item in plain.items()}
        if part.get("target_label", "") is None:  # drawn by the seed, of classes not in every data
            part["target_label"] = "lemon"
        return part

    return part


@pytest.fixture(scope="session")
def small(composed: Callable[..., dict[str, Any]]) -> Callable[[str, str], Any]:
    """Return what the YAML of a choice describes, with little work to do."""
    return lambda group, choice: build(shrunk(composed(group, choice)))
