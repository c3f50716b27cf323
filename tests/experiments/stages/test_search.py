from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.stages import search
from experiments.stages.parts import Parts
from experiments.stages.stages import list_stages
from invertune.evidence import Evidence

Resolve = Callable[..., dict[str, Any]]


def test_what_was_found_is_left_for_all_ways_to_repair(tiny_run: Any) -> None:
    found = Evidence.load(tiny_run.made["purify/search"].folder)
    assert found.triggers
    assert set(found.seconds) == {"identify", "invert"}


def test_a_defense_that_does_not_search_has_no_such_stage(resolve: Resolve) -> None:
    roles = [stage.role for stage in list_stages(resolve("defense=none"))]
    assert "purify/search" not in roles
    assert "purify" in roles


def test_a_defense_that_cannot_do_what_it_says_is_named(resolve: Resolve) -> None:
    config = resolve("defense=none", "+defense.name=mine")
    defense = {**config["defense"], "_stages_": {"search": ["name"]}}
    with pytest.raises(ValueError, match="defense mine says that it searches, and cannot search"):
        search.check(Parts({**config, "defense": defense}))
    search.check(Parts(config))
