"""What tells the configs of runs apart, beyond their seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# What a machine or a user decides, and numbers do not depend on; and the seed itself.
_OUTSIDE = ("device", "threads", "runs_dir", "tracking", "experiment", "seed")
_ABSENT = object()
_NAMED = 4


def plain(value: Any) -> str:
    """Return a value of a config as text, equal for equal numbers."""
    if value is _ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def differences(
    configs: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> dict[str, list[str | None]]:
    """Return key -> each run's value, for every key that tells runs apart beyond their seeds.

    A value that is its own run's seed, as interpolation leaves it, is None: such runs are alike.

    Args:
        configs: Resolved configs, one per run.
        seeds: Their seeds.
    """
    found: dict[str, list[Any]] = {}
    _walk("", [_inside(config) for config in configs], found)
    kinds = {key: _kinds(values, seeds) for key, values in found.items()}
    return {key: values for key, values in kinds.items() if len(set(values)) > 1}


def _inside(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _OUTSIDE}
    evaluation = dict(kept.pop("evaluation", None) or {})
    evaluation.pop("batch_size", None)
    return {**kept, "evaluation": evaluation}


def _walk(key: str, values: Sequence[Any], found: dict[str, list[Any]]) -> None:
    """Collect the leaves that are not the same in all; equal branches cost one comparison."""
    if all(value == values[0] for value in values[1:]):
        return
    prefix = f"{key}." if key else ""
    if all(isinstance(value, Mapping) for value in values):
        for name in dict.fromkeys(name for value in values for name in value):
            _walk(f"{prefix}{name}", [value.get(name, _ABSENT) for value in values], found)
    elif all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        for i, items in enumerate(zip(*values, strict=True)):
            _walk(f"{prefix}{i}", items, found)
    else:
        found[key] = list(values)


def _kinds(values: Sequence[Any], seeds: Sequence[int]) -> list[str | None]:
    texts = [plain(value) for value in values]
    # A value that some run has although its seed is another was set, not taken from the seed.
    certain = {text for text, seed in zip(texts, seeds, strict=True) if text != str(seed)}
    return [
        text if text in certain or text != str(seed) else None
        for text, seed in zip(texts, seeds, strict=True)
    ]


def variants(configs: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[str]:
    """Return a name per run, such as ``defense.tune.steps=100``, alike for runs of one mean.

    All names are empty where the runs differ in their seeds only.
    """
    found = differences(configs, seeds)
    if not found:
        return [""] * len(configs)
    signatures = list(zip(*found.values(), strict=True))
    names: dict[tuple[str | None, ...], str] = {}
    for signature in dict.fromkeys(signatures):
        values = zip(found, signature, strict=True)
        parts = [f"{key}={'seed' if value is None else value}" for key, value in values]
        name = ", ".join(parts[:_NAMED])
        if len(parts) > _NAMED:
            name = f"{len(names) + 1}: {name}, {len(parts) - _NAMED} more"
        names[signature] = name
    return [names[signature] for signature in signatures]
