"""Rules that fields of several attacks share."""

from __future__ import annotations

from typing import Any


def check_counts(of: Any, *names: str, least: int = 1) -> None:
    """Compare fields that count something with the least that makes sense.

    Raises:
        ValueError: If one is no integer, or less.
    """
    for name in names:
        value = getattr(of, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is an integer of at least {least}, got {value!r}")


def check_positive(of: Any, *names: str) -> None:
    """Compare fields that are sizes with 0.

    Raises:
        ValueError: If one is not above it.
    """
    for name in names:
        value = getattr(of, name)
        if not value > 0:
            raise ValueError(f"{name} is positive, got {value!r}")
