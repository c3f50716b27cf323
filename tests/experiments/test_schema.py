from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import CONF
from experiments.schema import check, quick

Made = Callable[..., dict[str, Any]]
SCHEMAS = sorted((CONF.parent / "experiments").rglob("*.schema.json"))
_VALUES = (None, True, False, -1, 0, 1, 2**70, 0.5, 1.0, 1.5, -1e300, "", "a", "a\n", "\x1b[2J",
           "\u202e", "stages/../x", [], [1], {}, {"value": 1})  # fmt: skip


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_schema_has_its_quick_test(path: Path) -> None:
    assert not quick(json.loads(path.read_text()))({})


def test_a_keyword_without_a_test_is_no_schema_of_ours() -> None:
    with pytest.raises(ValueError, match="keywords maxItems, uniqueItems"):
        quick({"type": "array", "maxItems": 3, "uniqueItems": True})


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "integer"}, [1, 1.0, -3], [True, 1.5, "1", None]),
        ({"type": "number"}, [1, 0.5], [True, "1"]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"const": 1}, [1, 1.0], [True, "1"]),
        ({"enum": ["a", False]}, ["a", False], [0, "b"]),
        ({"minimum": 0, "maximum": 1}, [0, 1, "a", True], [-0.1, 1.1]),
        ({"minLength": 1, "maxLength": 2}, ["a", "ab", 5], ["", "abc"]),
        ({"pattern": "^a"}, ["ab", 1], ["ba"]),
        ({"not": {"pattern": "x"}}, ["a"], ["x"]),
        ({"required": ["a"]}, [{"a": 1}, 3], [{}]),
        ({"properties": {"a": {"type": "null"}}}, [{"a": None}, {"b": 1}], [{"a": 1}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"b": 1}]),
        ({"additionalProperties": {"type": "string"}}, [{"a": "b"}], [{"a": 1}]),
        ({"propertyNames": {"maxLength": 1}}, [{"a": 1}], [{"ab": 1}]),
        ({"items": {"type": "string"}}, [["a"], [], 1], [["a", 1]]),
        ({"anyOf": [{"type": "null"}, {"minimum": 3}]}, [None, 3], [2]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, [None], [1]),
        (
            {"ascending": ["low", "value", "high"]},
            [{"low": 0, "value": 0, "high": 1}, {"low": 2}, {"low": 1, "high": 1}, 3],
            [{"low": 1, "value": 0, "high": 1}, {"low": 1, "high": 0}],
        ),
    ],
)
def test_a_keyword_tests_what_it_says(
    schema: dict[str, Any], right: list[Any], wrong: list[Any]
) -> None:
    test = quick(schema)
    for value in right:
        assert test(value)
        check(schema, value, lambda _: False)  # jsonschema finds nothing either
    for value in wrong:
        assert not test(value)
        with pytest.raises(ValueError, match=r"^.+: .+"):
            check(schema, value, test)


def _places(tree: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        found += _places(value, (*way, key))
    return found


def test_the_quick_test_says_what_jsonschema_says(result: Made) -> None:
    schema = json.loads((CONF.parent / "experiments/results/result.schema.json").read_text())
    test, chance = quick(schema), random.Random(0)
    made = {
        **result(),
        "inversion": {"asr": 0.5, "mask_share": 0.1, "embedding_cosine": 0.5, "images": 3,
                      "per_trigger": [{"form": "mask", "asr": 0.5, "mask_share": 0.1}]},
        "stages": {"purify": "stages/purify-0"},
    }  # fmt: skip
    assert test(made)
    places, refused = _places(made), 0
    for _ in range(150):
        changed = copy.deepcopy(made)
        *parents, key = chance.choice(places)
        part: Any = changed
        for parent in parents:
            part = part[parent]
        if chance.random() < 0.2:
            del part[key]
        else:
            part[key] = chance.choice(_VALUES)
        quickly = test(changed)
        refused += not quickly
        if quickly:
            check(schema, changed, lambda _: False)
        else:
            with pytest.raises(ValueError, match=": "):
                check(schema, changed, test)
    assert 50 < refused < 150
