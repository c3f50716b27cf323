from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.stages.parts import Parts
from experiments.stages.speed import execution_of
from invertune.training.execution import Execution

Resolve = Callable[..., dict[str, Any]]


def test_usual_runs_have_no_options(resolve: Resolve) -> None:
    assert execution_of(resolve(), None) == Execution()
    assert execution_of({}, None) == Execution()  # as configs of older results
    assert execution_of(resolve("speed.chunk=8"), None) == Execution(chunk=8)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("speed.precision=fp16", "precision is one of auto, bf16, fp32, got 'fp16'"),
        ("speed.chunk=0", "chunk is an integer of at least 1, got 0"),
        ("+speed.fast=true", "speed has the fields precision, chunk, checkpointing, compile, got"),
    ],
)
def test_a_wrong_value_is_named_before_the_work(resolve: Resolve, override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Parts(resolve(override)).check()
