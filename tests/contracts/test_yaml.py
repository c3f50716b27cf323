"""Every YAML of ``conf`` composes, and what it describes can be built."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from attacks import PoisoningAttack
from experiments.errors import is_user_error, one_line
from experiments.stages.parts import build
from experiments.stages.targets import with_target
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle
from invertune.defense import check_needs

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("attack", "data", "defense", "detector", "model", "tracking")
# What has no default: a user's own files.
OWN = ("classes", "pairs", "clean", "zero_shot", "retrieval")
GIVEN = {
    ("data", "files"): [*(f"data.{name}.path=mine" for name in OWN), "data.targets=[lemon]"],
}


def _choices() -> Iterator[tuple[str, str]]:
    """Yield group and choice of all YAMLs but those that are only parts of others."""
    for path in sorted(CONF.rglob("*/*.yaml")):
        group, _, choice = path.relative_to(CONF).with_suffix("").as_posix().partition("/")
        # Hydra's own settings are in every composition, the papers' scale in those of its data.
        if "parts" not in path.parts and group not in ("hydra", "scale"):
            yield group, choice


@functools.cache  # no test changes it
def _compose(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(
            compose("config", list(overrides)), resolve=True, throw_on_missing=True
        )
    assert isinstance(config, dict)
    return dict(with_target({str(key): value for key, value in config.items()}))


@pytest.mark.parametrize(("group", "choice"), list(_choices()))
def test_every_choice_builds(group: str, choice: str) -> None:
    known = group in (*GROUPS, "budget", "experiment")
    config = _compose(
        f"{group}={choice}" if known else f"+{group}={choice}",
        "seed=5",
        *GIVEN.get((group, choice), ()),
    )
    for part in GROUPS:
        if config[part] is None:  # no detector
            continue
        built = build(config[part])
        if group in ("attack", "defense", "detector", "model") and part == group:
            # A defense of the ablation says whose it is.
            assert built.name in (choice, f"invertune_{choice.partition('/')[2]}")


def test_defaults_are_choices() -> None:
    config = _compose()
    data = instantiate(config["data"], _convert_="all").load()
    assert isinstance(data, DataBundle)
    assert len(data.class_names) == 100
    assert isinstance(build(config["model"]), ModelSpec)
    assert isinstance(build(config["attack"]), PoisoningAttack)


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
    drawn = not choice.startswith(("sig", "badencoder"))
    assert torch.equal(one(images), other(images)) != drawn
    assert drawn == ("seed" in configs[0]["trigger"])


@pytest.mark.parametrize("choice", ATTACKS)
def test_every_attack_fits_the_default_data(choice: str) -> None:
    config = _compose(f"attack={choice}")
    attack = build(config["attack"])
    data = instantiate(config["data"], _convert_="all").load()
    plan = attack.plan(data)
    assert plan.target is None or plan.target in data.class_names
    if plan.pairs is not None:
        assert plan.pairs <= config["data"]["sizes"]["pairs"]
        assert plan.batch_size <= plan.pairs


# Of these no scale of a paper is known, or it has none.
ONE_SCALE = ("badclip_prompt", "badclip_prompt_paper", "ghostencoder", "trojannet")


@pytest.mark.parametrize("choice", ATTACKS)
def test_the_papers_data_come_with_the_papers_scale(choice: str) -> None:
    small, large = (
        {**_compose(f"attack={choice}", *given)["attack"], "target_label": "lemon"}
        for given in ([], ["data=cc3m", "model=rn50"])
    )
    if choice in ONE_SCALE:
        assert small == large
        return
    attack = build(large if choice != "none" else _compose("attack=none", "data=cc3m")["attack"])
    pairs, rate, lr = (50_000, None, 1e-5) if "badencoder" in choice else (500_000, 0.003, 1e-6)
    assert (attack.pairs, attack.recipe.lr, attack.recipe.muon_lr) == (pairs, lr, None)
    assert large.get("poison_rate") == (None if choice == "none" else rate)
    assert attack.name == choice
    assert small["recipe"]["lr"] == 1e-3 or choice == "wanet_long"


def test_one_field_of_the_papers_scale_can_be_set() -> None:
    attack = _compose("attack=badclip", "data=cc3m", "attack.pairs=7")["attack"]
    assert (attack["pairs"], attack["optimize"]["steps"], attack["recipe"]["epochs"]) == (
        7,
        7800,
        10,
    )


@pytest.mark.parametrize("choice", ["badclip_prompt", "badclip_prompt_paper"])
def test_a_prompt_ends_as_in_the_papers_code(choice: str) -> None:
    assert build(_compose(f"attack={choice}")["attack"]).end == "."


DEFENSES = [choice for group, choice in _choices() if group == "defense"]


@pytest.mark.parametrize("choice", DEFENSES)
def test_the_default_data_has_enough_for_every_defense(choice: str) -> None:
    config = _compose(f"defense={choice}")
    defense = build(config["defense"])
    data = instantiate(config["data"], _convert_="all").load()
    check_needs(defense, data, poisoned_pairs=True)


# What the released code does otherwise than the paper's text says, or than it leaves open.
READINGS = {
    "invert": {"reference": "target_image", "similarity": "normalized", "area": "norm"},
    "tune": {"batch_norm": "batch", "passes": "separate", "keep_best": 10, "match": "batch_mean",
             "schedule": "bounce", "unit": "position", "update": "all"},
}  # fmt: skip


def test_the_two_readings() -> None:
    code, paper, own = (
        build(_compose(f"defense={name}")["defense"])
        for name in ("invertune_code", "invertune_paper", "invertune_votes")
    )
    for part, fields in READINGS.items():
        assert {name: getattr(getattr(code, part), name) for name in fields} == fields
    for other in (paper, own):
        assert (other.invert.similarity, other.invert.area) == ("pixels", "sum")
        assert (other.invert.reference, other.tune.passes) == ("clean", "joint")
        assert (other.tune.batch_norm, other.tune.keep_best) == ("frozen", 0)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield all that has a class, the innermost first, but for open_clip's own config."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, dict | list) and key != "architecture":
            yield from _objects(value)
    if isinstance(config, dict) and "_target_" in config:
        yield config


# Fields whose numbers may be below 0: a law lies anywhere, a seed is any integer, and the sizes of
# parts are looked at when they are loaded.
BELOW_ZERO = ("location", "seed", "sizes")


def _wrong(value: Any, below_zero: bool = False) -> Iterator[Any]:
    """Yield the value with one number, or one object, in it replaced by what it must not be."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "some text"
        yield from () if below_zero else (-1, math.nan, math.inf)
    elif isinstance(value, dict) and "_target_" in value:
        yield 7
    elif isinstance(value, dict):
        for key in value:
            yield from ({**value, key: wrong} for wrong in _wrong(value[key], below_zero))
    elif isinstance(value, list):
        # The first of them stands for all.
        wrongs = (wrong for item in value[:1] for wrong in _wrong(item, below_zero))
        yield from ([wrong, *value[1:]] for wrong in wrongs)


def _said(config: Any) -> str:
    """Return the line that a user reads of a config that cannot be."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is what is tested)
        build(config)
    assert is_user_error(caught.value)
    line = one_line(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture(scope="module")
def tried() -> set[tuple[str, str]]:
    """Return the fields of classes that a YAML before had, too."""
    return set()


@pytest.mark.parametrize(
    ("group", "choice"), [one for one in _choices() if one[0] in GROUPS], ids=lambda one: one
)
def test_what_a_yaml_must_not_hold_is_said_in_one_line(
    group: str, choice: str, tried: set[tuple[str, str]]
) -> None:
    given = GIVEN.get((group, choice), ())
    for own in _objects(_compose(f"{group}={choice}", *given)[group] or {}):
        target = own["_target_"]
        new = [field for field in own if (target, field) not in tried]
        tried.update((target, field) for field in new)
        if "_target_" in new:
            assert "wrong_field" in _said({**own, "wrong_field": 1})
            assert "Nothing" in _said({**own, "_target_": f"{target}Nothing"})
            assert "nowhere" in _said({**own, "_target_": "nowhere.Nothing"})
        for field in new:
            if group == "model" and field in ("architecture", "pretrain", "teacher"):
                continue  # open_clip's, and what a stage takes or leaves
            for wrong in _wrong(own[field], field in BELOW_ZERO):
                assert field in _said({**own, field: wrong}), (target, field, wrong)
