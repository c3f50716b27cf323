"""Conditions on what a table or a list shows: ``--only attack=badnet,sig``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from experiments.results.variants import plain_text

T = TypeVar("T")


def select(
    items: Sequence[T], only: Sequence[str], labels: Callable[[T], Mapping[str, str]]
) -> list[T]:
    """Return the items that meet all conditions.

    Args:
        items: At least one.
        only: Conditions such as ``attack=badnet,sig``.
        labels: From an item to its names and their values.

    Raises:
        ValueError: If something is no condition, or no item meets one.
    """
    kept = list(items)
    for condition in only:
        name, _, values = condition.partition("=")
        names = labels(kept[0])
        if name not in names or not values:
            raise ValueError(
                f"{condition!r} is no condition; write NAME=VALUE[,VALUE] with NAME one of "
                f"{', '.join(names)}"
            )
        choices = sorted({labels(item)[name] for item in kept})
        wanted = {plain_text(value) for value in values.split(",")}
        kept = [item for item in kept if plain_text(labels(item)[name]) in wanted]
        if not kept:
            raise ValueError(f"no run has {condition}; choices: {', '.join(choices)}")
    return kept
