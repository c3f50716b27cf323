"""Every number of a YAML has a rule, and its class keeps it before any work is done."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.config import class_fields

Place = tuple[str | int, ...]
FOLDER = Path(__file__).parents[2] / "conf"
CHOICES = [
    (group, f"{path.relative_to(FOLDER / group).with_suffix('')}")
    for group in ("attack", "defense", "detector", "data")
    for path in sorted((FOLDER / group).glob("*.yaml"))
]
# What a YAML leaves to its reader.
PARTS = ("pairs", "clean", "zero_shot", "retrieval", "classes")
OWN = {"files": [f"data.{part}.path=." for part in PARTS]}
# A law may lie anywhere; sizes of parts are looked at when they are loaded. A seed is any integer.
FREE = {("Gumbel", "location"), ("IconWorld", "sizes")}


def _numbers(node: Any, place: Place = ()) -> Iterator[Place]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _numbers(value, (*place, key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield place


def _at(node: Any, place: Place) -> Any:
    for key in place:
        node = node[key]
    return node


def _owned(node: Any) -> dict[tuple[str, Place], Any]:
    """Return the numbers of a config by class and field, with the config of its object."""
    found = {}
    for place in _numbers(node):
        last = max(
            cut for cut in range(len(place))
            if isinstance(_at(node, place[:cut]), dict) and "_target_" in _at(node, place[:cut])
        )  # fmt: skip
        owner = _at(node, place[:last])
        name = owner["_target_"].removeprefix("invertune.").split(".", 1)[-1].split("triggers.")[-1]
        found[name, place[last:]] = owner
    return found


def _refused(owner: Any, place: Place, value: float) -> BaseException | None:
    """Return why an object is not built with a value in that place; None if it is."""
    changed = copy.deepcopy(owner)
    _at(changed, place[:-1])[place[-1]] = value
    try:
        instantiate(class_fields(changed), _convert_="all")
    except InstantiationException as error:
        return error.__cause__
    return None


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_no_number_may_be_negative_or_infinite(group: str, choice: str) -> None:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        part = compose("config", [f"{group}={choice}", *OWN.get(choice, ())])[group]
    node = OmegaConf.to_container(part, resolve=True) if part is not None else {}
    for (name, place), owner in _owned(node).items():
        if place[-1] != "seed" and (name, place[0]) not in FREE:
            for value in (-1, math.nan, math.inf):
                assert isinstance(_refused(owner, place, value), ValueError), (name, place, value)
