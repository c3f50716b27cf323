from __future__ import annotations

from typing import Any

import pytest

from experiments.results.variants import differences, plain, variants


def config(seed: int, steps: float = 240, **more: Any) -> dict[str, Any]:
    return {
        "seed": seed,
        "device": f"cuda:{seed}",
        "runs_dir": f"runs{seed}",
        "evaluation": {"batch_size": 256 + seed},
        "data": {"seed": 0},
        "attack": {"trigger": {"seed": seed}},
        "defense": {"tune": {"steps": steps, "betas": [0.9, 0.98]}, **more},
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(240, "240"), (240.0, "240"), (0.15, "0.15"), (2e-05, "2e-05"), (None, "null"),
     (True, "true"), ("a", "a"), ([1, 2], "[1, 2]")],
)  # fmt: skip
def test_equal_values_have_equal_text(value: object, text: str) -> None:
    assert plain(value) == text


def test_seeds_and_what_follows_them_are_no_difference() -> None:
    seeds = [0, 1, 2]
    assert differences([config(seed) for seed in seeds], seeds) == {}
    assert differences([config(0, 240), config(1, 240.0)], [0, 1]) == {}


def test_a_trigger_seed_that_was_set_is_a_difference() -> None:
    fixed = config(2)
    fixed["attack"]["trigger"]["seed"] = 0
    found = differences([config(1), fixed], [1, 2])
    assert found == {"attack.trigger.seed": [None, "0"]}
    assert variants([config(1), fixed], [1, 2]) == ["trigger.seed=seed", "trigger.seed=0"]


def test_values_in_lists_and_absent_ones_are_found() -> None:
    other = config(0, clip=1.0)
    other["defense"]["tune"]["betas"] = [0.9, 0.95]
    found = differences([config(0), other], [0, 0])
    assert found == {"defense.tune.betas.1": ["0.98", "0.95"], "defense.clip": ["absent", "1"]}


def test_without_seeds_every_value_counts() -> None:
    assert differences([{"a": 1}, {"a": 2}]) == {"a": ["1", "2"]}


def test_the_usual_run_has_no_name_and_the_others_say_what_is_special() -> None:
    configs = [config(0), config(1), config(2, 100), config(3, clip=1)]
    assert variants(configs, [0, 1, 2, 3]) == ["", "", "steps=100", "clip=1"]


def test_without_a_majority_every_value_is_named() -> None:
    assert variants([config(0), config(0, 100)], [0, 0]) == ["steps=240", "steps=100"]


def test_many_differences_are_cut_and_still_tell_all_runs_apart() -> None:
    configs = [{"defense": dict.fromkeys("abcdef", i)} for i in (7, 8, 9)]
    assert variants(configs, [0, 0, 0])[0] == "a=7, b=7, c=7, d=7, e=7, 1 more"
    alike = [{"defense": {**dict.fromkeys("abcde", i // 2), "f": i}} for i in range(4)]
    names = variants(alike, [9] * 4)
    assert len(set(names)) == 4
    assert names[1] == "2: a=0, b=0, c=0, d=0, e=0, 1 more"
