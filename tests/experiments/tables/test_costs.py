from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.results.runs import Run
from experiments.tables.columns import SINGLE
from experiments.tables.costs import harm

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]


def _loses(made: dict[str, Any], attack: str, seed: int, loss: float) -> dict[str, Any]:
    made["attack"]["name"], made["seed"] = attack, seed
    made["config"] = {"defense": {"clean_samples": 64}}
    before = made["scores"]["backdoored"]["zero_shot"]["ca"]["value"]
    made["scores"]["purified"]["zero_shot"]["ca"]["value"] = before - loss
    return made


def test_harm_is_what_the_control_of_the_same_seed_loses(result: Made, as_run: AsRun) -> None:
    rows = [
        as_run(_loses(result(), attack, seed, loss))
        for attack, seed, loss in (
            ("badnet", 0, 0.5), ("badnet", 1, 0.5), ("none", 0, 0.125), ("none", 1, 0.25),
        )
    ]  # fmt: skip
    (measure,) = harm(rows)
    mean = measure.read(rows[:2])
    assert isinstance(mean, Estimate)
    assert mean.value == pytest.approx(0.1875)
    alone = measure.read(rows[:1])
    assert isinstance(alone, Estimate)
    assert alone.value == pytest.approx(0.125)


def test_another_budget_or_defense_is_no_control(result: Made, as_run: AsRun) -> None:
    control = _loses(result(), "none", 0, 0.25)
    control["config"]["defense"]["clean_samples"] = 7
    row = as_run(_loses(result(), "badnet", 0, 0.5))
    (measure,) = harm([row, as_run(control)])
    assert measure.read([row]) is None


def test_what_a_defense_takes_is_a_mean_over_seeds(result: Made, as_run: AsRun) -> None:
    runs = []
    for seed, seconds in enumerate((10.0, 30.0)):
        made = result()
        made["seed"] = seed
        made["seconds"]["purify"] = seconds
        made["defense"] |= {"clean_samples": 512, "steps": 80, "knows": "captions"}
        runs.append(as_run(made))
    read = {name: SINGLE[name].read(runs) for name in ("purify_seconds", "steps", "knows")}
    assert read["knows"] == "captions"
    for name, mean in (("purify_seconds", 20.0), ("steps", 80.0)):
        value = read[name]
        assert isinstance(value, Estimate)
        assert value.value == mean


def test_what_was_not_counted_is_a_gap(result: Made, as_run: AsRun) -> None:
    made = result()
    made["defense"].pop("steps", None)
    assert SINGLE["steps"].read([as_run(made)]) is None
