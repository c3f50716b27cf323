"""Every YAML of ``conf`` composes, and what it describes can be built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from attacks import BadCLIPPrompt, CleanControl, GhostEncoder, PoisoningAttack, TrojanNet
from invertune.clip.models import ModelSpec
from invertune.data.bundle import DataBundle

CONF = Path(__file__).parent.parent / "conf"
GROUPS = ("attack", "data", "defense", "model", "tracking")


def _choices() -> Iterator[tuple[str, str]]:
    for path in sorted(CONF.glob("*/*.yaml")):
        yield path.parent.name, path.stem


def _compose(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(
            compose("config", list(overrides)), resolve=True, throw_on_missing=True
        )
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@pytest.mark.parametrize(("group", "choice"), list(_choices()))
def test_every_choice_builds(group: str, choice: str) -> None:
    known = group in (*GROUPS, "experiment")
    config = _compose(f"{group}={choice}" if known else f"+{group}={choice}", "seed=5")
    for part in GROUPS:
        built = instantiate(config[part], _convert_="all")
        if group in ("attack", "defense", "model") and part == group:
            assert built.name == choice


def test_defaults_are_choices() -> None:
    config = _compose()
    data = instantiate(config["data"], _convert_="all").load()
    assert isinstance(data, DataBundle)
    assert len(data.class_names) == 100
    assert isinstance(instantiate(config["model"], _convert_="all"), ModelSpec)
    assert isinstance(instantiate(config["attack"], _convert_="all"), PoisoningAttack)


ATTACKS = [choice for group, choice in _choices() if group == "attack"]


@pytest.mark.parametrize("choice", ATTACKS)
def test_the_seed_reaches_the_trigger(choice: str) -> None:
    """A trigger that draws something draws it by the run's seed."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    configs = [_compose(f"attack={choice}", f"seed={seed}")["attack"] for seed in (5, 6)]
    if configs[0].get("trigger") is None:
        return
    one, other = (instantiate(config["trigger"], _convert_="all") for config in configs)
    # Bands and a white square are the same for all seeds.
    drawn = choice not in ("sig", "sig_badclip", "sig_cleanclip", "badencoder", "badencoder_white")
    assert torch.equal(one(images), other(images)) != drawn
    assert drawn == ("seed" in configs[0]["trigger"])


@pytest.mark.parametrize("choice", ATTACKS)
def test_every_attack_fits_the_default_data(choice: str) -> None:
    config = _compose(f"attack={choice}")
    attack = instantiate(config["attack"], _convert_="all")
    sizes = config["data"]["sizes"]
    if not isinstance(attack, CleanControl):
        assert attack.target_label in config["data"]["classes"]
    if hasattr(attack, "pairs"):  # not all of them fine-tune on pairs
        assert attack.pairs <= sizes["pairs"]
        assert attack.recipe.batch_size <= attack.pairs
    if isinstance(attack, BadCLIPPrompt):
        assert attack.shots * len(config["data"]["classes"]) < sizes["pairs"] / 10
    if isinstance(attack, GhostEncoder):
        assert attack.hide.images <= sizes["pairs"]
        assert config["data"]["image_size"] % 16 == 0


@pytest.mark.parametrize("choice", ATTACKS)
def test_an_attack_has_a_trigger_or_makes_one(choice: str) -> None:
    attack = instantiate(_compose(f"attack={choice}")["attack"], _convert_="all")
    trigger = getattr(attack, "trigger", None)
    made = hasattr(attack, "prepare")
    itself = isinstance(attack, BadCLIPPrompt | CleanControl | TrojanNet)  # with it, or has none
    assert [trigger is not None, made, itself].count(True) == 1


DEFENSES = [choice for group, choice in _choices() if group == "defense"]


@pytest.mark.parametrize("choice", DEFENSES)
def test_the_default_data_has_enough_for_every_defense(choice: str) -> None:
    config = _compose(f"defense={choice}")
    defense = instantiate(config["defense"], _convert_="all")
    assert 0 <= defense.clean_samples <= config["data"]["sizes"]["clean"]
    assert isinstance(defense.knows, str)
