from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.results.measures import (
    MEASURES,
    MODELS,
    lookup,
    percent,
    rate_of,
    share,
    total_seconds,
)

Made = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("path", "found"), [("a/b", 1), ("a", {"b": 1}), ("a/c", None), ("a/b/c", None), ("x/y", None)]
)
def test_a_way_that_ends_early_is_none(path: str, found: object) -> None:
    assert lookup({"a": {"b": 1}}, path) == found


def test_every_measure_of_a_whole_result_is_there(result: Made) -> None:
    made = result(asr=0.9)
    for model in MODELS:
        for measure in MEASURES.values():
            assert rate_of(made, model, measure) is not None, (model, measure)
    assert share(made, "backdoored", MEASURES["ASR"]) == 0.9


def test_what_was_not_measured_is_none(result: Made) -> None:
    made = result()
    made["scores"]["clean"] = None
    made["scores"]["purified"]["retrieval"] = None
    assert share(made, "clean", "zero_shot/ca") is None
    assert share(made, "purified", "retrieval/asr/r@1") is None


def test_the_steps_of_a_stage_do_not_count_twice(result: Made) -> None:
    assert total_seconds(result()) == 15.0


def test_a_share_is_a_percentage_with_one_decimal() -> None:
    assert [percent(value) for value in (0.12345, 1.0, None)] == ["12.3", "100.0", "-"]
