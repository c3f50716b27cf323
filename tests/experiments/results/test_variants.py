from __future__ import annotations

from typing import Any

import pytest

from experiments.results.variants import differences, plain, plain_text, variants


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
     (True, "true"), ("a", "a"), ([1, 2], "[1, 2]"), ([1.0, 2], "[1, 2]")],
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


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", "0.0"), ("1e-3", "0.001"), ("-0.0", "0"), ("[0.7,1.0]", "[0.70, 1]"), ("2.5", "2.50")],
)
def test_equal_values_of_the_command_line_have_equal_text(one: str, other: str) -> None:
    assert plain_text(one) == plain_text(other)


def test_texts_that_are_no_equal_numbers_stay_apart() -> None:
    assert len({plain_text(text) for text in ("1", "true", "True", "inf", "one", "0.1")}) == 6


def _of(classes: dict[str, str], seed: int, **data: Any) -> dict[str, Any]:
    return {**config(seed), "data": {"_target_": "a.B", "classes": classes, **data}}


def test_the_order_of_classes_counts() -> None:
    first, second = (
        {"apple": "a", "lemon": "l", "cat": "c"},
        {"cat": "c", "lemon": "l", "apple": "a"},
    )
    made = [_of(first, 0), _of(second, 1), _of(first, 2)]
    found = differences(made, [0, 1, 2])
    assert list(found) == ["data.classes.order"]
    one, other, again = found["data.classes.order"]
    assert one == again != other
    assert variants(made, [0, 1, 2]) == ["", f"order={other}", ""]
    assert str(other).startswith("cat, lemon, apple (")


def test_long_orders_that_begin_alike_are_told_apart() -> None:
    names = [f"class {i}" for i in range(9)]
    swapped = [*names[:7], names[8], names[7]]
    first, second = (dict.fromkeys(own, "x") for own in (names, swapped))
    found = differences([_of(first, 0), _of(second, 1)], [0, 1])
    one, other = found["data.classes.order"]
    assert one != other
    assert str(one).startswith("class 0, class 1, class 2, ... (")


def test_the_order_of_fields_does_not_count() -> None:
    one, other = (
        {"_target_": "c.D", "turn": 3, "shift": 4},
        {"shift": 4, "_target_": "c.D", "turn": 3},
    )
    assert differences([_of({}, 0, style=one), _of({}, 1, style=other)], [0, 1]) == {}
    first, second = config(0), dict(reversed(config(1).items()))
    assert differences([first, second], [0, 1]) == {}


def test_true_is_not_1() -> None:
    found = differences([config(0, clip=True), config(1, clip=1)], [0, 1])
    assert found == {"defense.clip": ["true", None]}
    assert differences([{"a": {"b": [True]}}, {"a": {"b": [1.0]}}]) == {"a.b.0": ["true", "1"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", 0), ("null", None), ("true", True), ("", None), ("1e3", 1000.0), ("nan", "absent")],
)
def test_a_text_is_not_what_it_looks_like(one: str, other: object) -> None:
    assert differences([{"a": {"b": one}}, {"a": {"b": other}}])["a.b"][0] == repr(one)
    assert differences([{"a": {"b": "absent"}}, {"a": {}}])["a.b"] == ["'absent'", "absent"]
