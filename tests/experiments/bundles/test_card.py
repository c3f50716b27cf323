from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from experiments.bundles.card import SEALED, Card, Rate
from experiments.results.result import SCHEMA
from experiments.sealed import HASH


def test_the_types_have_the_schemas_fields() -> None:
    schema = json.loads(SEALED.schema.read_text(encoding="utf-8"))
    assert get_type_hints(Card).keys() | {HASH} >= set(schema["required"])
    assert get_type_hints(Card).keys() <= schema["properties"].keys()


def test_a_rate_is_a_results(result: Callable[..., dict[str, Any]]) -> None:
    rate = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["rate"]
    assert set(rate["required"]) == get_type_hints(Rate).keys()
    assert result()["scores"]["clean"]["zero_shot"]["ca"].keys() == get_type_hints(Rate).keys()


def test_a_card_of_a_run_keeps_the_schema(bundle: Path) -> None:
    card = SEALED.read(bundle / "card.json")
    SEALED.check(card)
    assert card.keys() - {HASH} == get_type_hints(Card).keys()
