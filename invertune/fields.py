"""Rules that fields of attacks, triggers and recipes share.

Values come from YAML and the command line, so that any of them may be text, or no number at all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_types(of: Any) -> None:
    """Compare the fields of a dataclass that are numbers, texts or switches with their types.

    Raises:
        ValueError: If one is something else, such as a text in place of a number.
    """
    for field in dataclasses.fields(of):
        kind, none, _ = str(field.type).partition(" | None")
        value = getattr(of, field.name)
        if kind not in _KINDS or (none and value is None):
            continue
        rule, fits = _KINDS[kind]
        if not fits(value):
            raise ValueError(f"{field.name} is {rule}, got {value!r:.80}")


def check_numbers(of: Any, *names: str) -> None:
    """Compare fields that map names to numbers with that.

    Raises:
        ValueError: If one is no mapping, or holds something else.
    """
    for name in names:
        values = getattr(of, name)
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} maps names to numbers, got {values!r:.80}")
        for key, value in values.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name}.{key} is a number, got {value!r:.80}")


def check_terms(of: Any, name: str, terms: Sequence[str]) -> None:
    """Compare a field that weighs the terms of a loss with these, and the weights with 0.

    Raises:
        ValueError: If a term is missing or unknown, or a weight below 0 or no finite number.
    """
    check_numbers(of, name)
    weights: Mapping[str, float] = getattr(of, name)
    if set(weights) != set(terms):
        raise ValueError(f"{name} are of {', '.join(terms)}, got {', '.join(map(str, weights))}")
    for term, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise ValueError(f"{name}.{term} is a number of at least 0, got {weight!r}")


def check_rates(of: Any, name: str) -> None:
    """Compare a field that maps names to learning rates with 0.

    Raises:
        ValueError: If it is no mapping, or holds what is not above 0 or no finite number.
    """
    check_numbers(of, name)
    for key, value in getattr(of, name).items():
        if not is_number(value) or value <= 0:
            raise ValueError(f"{name}.{key} is positive, got {value!r}")


def check_choices(of: Any, **choices: Sequence[str]) -> None:
    """Compare fields with the choices that there are for them.

    Raises:
        ValueError: If one is something else; names the choices.
    """
    for name, known in choices.items():
        value = getattr(of, name)
        if value not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, got {value!r}")


def check_calls(of: Any, *names: str, none: bool = False) -> None:
    """Compare fields that are called, such as a trigger, with that.

    Args:
        of: Has the fields.
        names: Of the fields.
        none: Whether null makes sense too.

    Raises:
        ValueError: If one is something else, such as a number.
    """
    for name in names:
        value = getattr(of, name)
        if not callable(value) and not (none and value is None):
            raise ValueError(f"{name} is an object with a _target_, got {value!r:.80}")


def check_all(of: Any, name: str, kind: type) -> None:
    """Compare every item of a field with the class that it has to be of.

    Raises:
        ValueError: If it is no list, or an item is something else.
    """
    values = getattr(of, name)
    if not isinstance(values, list | tuple) or not all(isinstance(one, kind) for one in values):
        raise ValueError(f"{name} is a list of {kind.__name__}s, got {values!r:.80}")


def check_counts(of: Any, *names: str, least: int = 1) -> None:
    """Compare fields that count something with the least that makes sense.

    Raises:
        ValueError: If one is no integer, or less.
    """
    for name in names:
        value = getattr(of, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is an integer of at least {least}, got {value!r}")


def is_number(value: Any) -> bool:
    """Return whether a value is a finite real number."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", lambda value: isinstance(value, float | int) and type(value) is not bool),
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
}


def check_positive(of: Any, *names: str) -> None:
    """Compare fields that are sizes with 0.

    Raises:
        ValueError: If one is not above it, or no finite number.
    """
    for name in names:
        value = getattr(of, name)
        if not is_number(value) or value <= 0:
            raise ValueError(f"{name} is positive, got {value!r}")


def check_weights(of: Any, *names: str) -> None:
    """Compare fields that weigh a part of something with 0, which leaves it out.

    Raises:
        ValueError: If one is below it, or no finite number.
    """
    for name in names:
        value = getattr(of, name)
        if not is_number(value) or value < 0:
            raise ValueError(f"{name} is a number of at least 0, got {value!r}")


def check_shares(of: Any, *names: str, zero: bool = False, one: bool = False) -> None:
    """Compare fields that are a share of something with 0 and 1.

    Args:
        of: Has the fields.
        names: Of the fields.
        zero, one: Whether 0 and 1 themselves make sense.

    Raises:
        ValueError: If one is outside, or no number.
    """
    for name in names:
        value = getattr(of, name)
        inside = is_number(value) and 0 <= value <= 1 and (zero or value) and (one or value != 1)
        if not inside:
            left, right = "[" if zero else "(", "]" if one else ")"
            raise ValueError(f"{name} is a share in {left}0, 1{right}, got {value!r}")


def check_positive_lists(of: Any, *names: str, empty: bool = False) -> None:
    """Compare fields that are lists of numbers above 0, at least one unless ``empty``, with that.

    Raises:
        ValueError: If one is something else.
    """
    for name in names:
        values = getattr(of, name)
        right = isinstance(values, list | tuple) and (empty or bool(values))
        if not right or not all(is_number(value) and value > 0 for value in values):
            raise ValueError(f"{name} is a list of positive numbers, got {values!r:.80}")


def check_betas(of: Any) -> None:
    """Compare the field ``betas`` with what Adam takes.

    Raises:
        ValueError: If it is no two numbers in [0, 1).
    """
    pair = isinstance(of.betas, Sequence) and len(of.betas) == 2
    if not pair or not all(is_number(beta) and 0 <= beta < 1 for beta in of.betas):
        raise ValueError(f"betas is two numbers in [0, 1), got {of.betas!r:.80}")


def check_is(of: Any, name: str, kind: type) -> None:
    """Compare a field that is an object of its own with the class that it has to be of.

    Raises:
        ValueError: If it is something else, such as null.
    """
    value = getattr(of, name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is a {kind.__name__}, got {value!r:.80}")


def check_tensor(of: Any, name: str, rule: str, *shape: int | None) -> None:
    """Compare a field with what a tensor has to be.

    Args:
        of: Has the field.
        name: Of the field.
        rule: The shape in words, such as ``(3, S, S)``.
        shape: Sides; None for any positive one, which all of them then share.

    Raises:
        ValueError: If it is no tensor of finite floating-point numbers, or of another shape.
    """
    value = getattr(of, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a tensor of shape {rule}, got {type(value).__name__}")
    fits = value.ndim == len(shape) and all(
        side is None or side == found for side, found in zip(shape, value.shape, strict=True)
    )
    free = {found for side, found in zip(shape, value.shape, strict=False) if side is None}
    if not fits or len(free) > 1 or 0 in free:
        raise ValueError(f"{name} is a tensor of shape {rule}, got {tuple(value.shape)}")
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} holds finite floating-point numbers, got {value.dtype} or others")
