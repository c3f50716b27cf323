from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import (
    CONF,
    class_fields,
    part_names,
    plain_config,
    preset_fields,
    presets,
    result_id,
    run_name,
    same_numbers,
    short_names,
)
from experiments.files import digest

Resolve = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("seed=1", False),
        ("data.seed=1", False),
        ("defense.tune.steps=4", False),
        ("+evaluation.kind=other", False),
        ("+model.shipped=false", False),  # its weights may be another machine's
        ("evaluation.batch_size=7", True),
        ("device=cpu", True),
        ("threads=2", True),
        ("processes=2", True),
        ("speed.chunk=8", True),
        ("runs_dir=elsewhere", True),
        ("tracking=offline", True),
        ("budget=paper", True),  # of data and a defense that have nothing of it
        ("+data.more_clean=3", False),
        ("detector=none", True),
        ("detector=tiny", False),
        ("defense._stages_.search=[identify]", True),  # where stages begin changes no number
    ],
)
def test_an_id_names_all_that_numbers_depend_on(
    resolve: Resolve, override: str, same: bool
) -> None:
    one, other = result_id(resolve("defense=tiny")), result_id(resolve("defense=tiny", override))
    assert (one == other) == same
    assert len(one) == 16


def test_a_class_gets_its_own_fields() -> None:
    part = {"_target_": "a.B", "_stages_": {}, "shipped": True, "lr": 1,
            "teacher": {"_target_": "a.B", "shipped": True}, "style": {"shipped": 3}}  # fmt: skip
    own = {"_target_": "a.B", "lr": 1, "teacher": {"_target_": "a.B"}, "style": {"shipped": 3}}
    assert class_fields(part) == own


def test_a_runs_folder_says_what_it_is() -> None:
    config = {"data": {}, "model": {"name": "m"}, "attack": {}, "defense": {"name": "d"}, "seed": 3}
    parts = part_names(config, {"attack": "group/mine"})
    assert parts == ["m", "mine", "d"]
    assert run_name(config, parts) == f"m-mine-d-seed3-{result_id(config)[:8]}"


def test_a_detector_stands_behind_the_defense(resolve: Resolve) -> None:
    config = resolve("detector=decree")
    parts = part_names(config, {"defense": "none"})
    assert parts == ["tiny", "tiny", "none", "decree"]
    assert run_name(config, parts) == f"tiny-tiny-none-decree-seed0-{result_id(config)[:8]}"
    before = {key: value for key, value in resolve().items() if key != "detector"}
    assert result_id(before) == result_id(resolve())
    with pytest.raises(ValueError, match=r"detector\.name is a plain folder name of at most 32 "):
        part_names({**config, "detector": {"name": "x" * 33}}, {})
    longest = part_names({**config, **{
        group: {"name": "x" * (32 if group == "detector" else 64)}
        for group in ("data", "model", "attack", "defense", "detector")
    }}, {})  # fmt: skip
    assert len(run_name({**config, "seed": 2**40}, longest)) <= 255


@pytest.mark.parametrize("group", ["data", "model", "attack", "defense"])
def test_names_of_parts_are_plain(group: str) -> None:
    config: dict[str, Any] = {
        name: {"name": "x"} for name in ("data", "model", "attack", "defense")
    }
    with pytest.raises(ValueError, match=rf"{group}\.name is a plain folder name .* got '\.\./x'"):
        part_names({**config, group: {"name": "../x"}}, {})
    with pytest.raises(ValueError, match=rf"{group} is one of conf/{group}, got None"):
        part_names({**config, group: None}, {})


def test_a_preset_says_its_mistake_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("experiment:\n  id: T9\n  id: T8\n")
    with pytest.raises(ValueError, match=r"mine\.yaml, line 3: 'id' stands there twice"):
        preset_fields(tmp_path)


def test_a_plain_config_is_resolved_and_without_hydras_part() -> None:
    composed = OmegaConf.create({"hydra": {"a": 1}, "experiment": "T1", "seed": 2, "b": "${seed}"})
    OmegaConf.set_readonly(composed, True)
    assert plain_config(composed) == {"seed": 2, "b": 2}
    assert composed.experiment == "T1"


def test_short_names_tell_keys_apart() -> None:
    keys = ("attack.recipe.lr", "model.pretrain.lr", "seed", "tune.weights.lr.mask")
    assert short_names(keys) == ("recipe.lr", "pretrain.lr", "seed", "mask")
    assert short_names(("a.b",)) == ("b",)


def test_presets_have_the_ids_of_their_experiments() -> None:
    found = presets()
    assert found["t1_classification"] == "T1"
    assert all(name.startswith(experiment.lower()) for name, experiment in found.items())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attack.trigger.size=3", "attack.trigger.size=3.0"),
        ("attack.poison_rate=1", "attack.poison_rate=1.0"),
        ("attack.poison_rate=1e-3", "attack.poison_rate=0.001"),
        ("attack.recipe.weight_decay=0", "attack.recipe.weight_decay=0.0"),
        ("attack.recipe.weight_decay=-0.0", "attack.recipe.weight_decay=0.0"),
        ("+data.anything=[1,{a:0}]", "+data.anything=[1.0,{a:0.0}]"),
    ],
)
def test_equal_numbers_are_one_value_of_an_id(resolve: Resolve, one: str, other: str) -> None:
    assert result_id(resolve(one)) == result_id(resolve(other))


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), (0, None), (1, "1"), (2**60, 2**60 + 1), (0.5, 0)]
)
def test_other_values_stay_apart(one: object, other: object) -> None:
    assert digest(same_numbers({"a": one})) != digest(same_numbers({"a": other}))


def test_numbers_that_no_whole_number_is_stay_as_they_are() -> None:
    values = [1e300, float("inf"), 10**400, 0.1, -2.5]
    assert same_numbers(values) == values


@pytest.mark.parametrize(
    "path",
    sorted({*CONF.rglob("*.yaml")} - {*CONF.glob("experiment/*")}),
    ids=lambda path: path.stem,
)
def test_keys_of_what_was_made_before_stay_valid(path: Path) -> None:
    """A whole number is 1 in a new YAML; 1.0 is for fields that had it before."""
    plain = OmegaConf.to_container(OmegaConf.load(path))
    assert digest(same_numbers(plain)) == digest(plain)


def test_keys_of_the_sweeps_of_before_stay_valid() -> None:
    for path in CONF.glob("experiment/*.yaml"):
        swept = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params") or {}
        for key, values in swept.items():
            numbers = yaml.safe_load(f"[{values}]")
            assert digest(same_numbers(numbers, key)) == digest(numbers)
