from __future__ import annotations

import json
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

from experiments.results import content
from experiments.results.result import SCHEMA

TYPES = {"model": content.ModelFacts, "data": content.DataFacts, "attack": content.AttackFacts,
         "defense": content.DefenseFacts, "identification": content.Found}  # fmt: skip


def required(type_: Any) -> set[str]:
    hints = get_type_hints(type_, include_extras=True)
    return {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}


def schema() -> Any:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def test_a_result_has_the_fields_that_the_schema_requires() -> None:
    assert required(content.Result) == set(schema()["required"])


@pytest.mark.parametrize("part", TYPES)
def test_a_part_has_the_fields_that_the_schema_requires(part: str) -> None:
    assert required(TYPES[part]) == set(schema()["properties"][part]["required"])
