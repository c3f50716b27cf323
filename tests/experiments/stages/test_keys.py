from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import CONF
from experiments.stages.code import Code, read_lock
from experiments.stages.keys import Planner, StageKey, targets

KEY = StageKey("count", {"lr": 0.1, "classes": {"apple": "a", "lemon": "l"}}, {"model": "ab"}, 0)


def test_the_hash_is_a_function_of_the_key_alone() -> None:
    # Worked out once: another machine, process or version of Python must find the same folder.
    assert KEY.folder_name == "count-b70a352d8227c7f5"


@pytest.mark.parametrize(
    "other",
    [
        StageKey("counts", KEY.config, KEY.inputs, 0),
        StageKey("count", KEY.config, KEY.inputs, 0, {"invertune.tune": 2}),
        StageKey("count", {**KEY.config, "lr": 0.2}, KEY.inputs, 0),
        StageKey("count", KEY.config, {"model": "ac"}, 0),
        StageKey("count", KEY.config, KEY.inputs, 1),
        # The order of classes gives the class index.
        StageKey("count", {"lr": 0.1, "classes": {"lemon": "l", "apple": "a"}}, KEY.inputs, 0),
    ],
)
def test_every_part_of_the_key_changes_the_hash(other: StageKey) -> None:
    assert other.hash != KEY.hash


def test_equal_numbers_are_one_key() -> None:
    one = StageKey("count", {"size": 0, "lr": [1e-3, 2.0], "weight_decay": 0}, {}, 0)
    other = StageKey("count", {"size": 0.0, "lr": [0.001, 2], "weight_decay": 0.0}, {}, 0)
    assert one.hash == other.hash
    assert (
        one.hash
        != StageKey("count", {"size": False, "lr": [1e-3, 2.0], "weight_decay": 0}, {}, 0).hash
    )


def test_targets_are_found_at_every_depth() -> None:
    config = {"_target_": "a.B", "parts": [{"_target_": "c.D", "inner": {"_target_": "e.F"}}, 3]}
    assert list(targets(config)) == ["a.B", "c.D", "e.F"]
    assert list(targets({"name": "x"})) == []


def _produce(parts: Any, made: Any, folder: Path) -> None:
    raise NotImplementedError


def test_a_stage_has_the_hashes_of_its_inputs_and_the_runs_seed() -> None:
    planner = Planner({"seed": 3}, Code(CONF.parent, read_lock()))
    first = planner.stage("first", {"a": 1}, {}, None)
    second = planner.stage("role", {"b": 2}, {"model": first}, _produce, name="second", seed=0)
    assert (first.key.seed, second.key.seed) == (3, 0)
    assert second.key.inputs == {"model": first.key.hash}
    assert (second.role, second.key.name, second.inputs) == ("role", "second", {"model": first})


def test_a_stage_has_the_code_of_its_maker_and_of_its_classes() -> None:
    asked: list[list[str]] = []

    class Asked(Code):
        def versions(self, names: Any) -> dict[str, int | str]:
            asked.append(list(names))
            return {"a.module": 2}

    planner = Planner({"seed": 0}, Asked(CONF.parent, {}))
    made: Callable[..., Any] = _produce
    stage = planner.stage("s", {"_target_": "a.B"}, {}, made)
    assert asked == [[made.__module__, "a.B"]]
    assert stage.key.plain["code"] == {"a.module": 2}
