"""What tells the configs of runs apart, beyond their seeds."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import same_numbers, short_names
from experiments.files import digest
from experiments.results.content import Config

# What a machine or a user decides, and numbers do not depend on; what stands again where it counts;
# and the seed itself.
_OUTSIDE = (
    "device", "threads", "processes", "speed", "runs_dir", "tracking", "experiment", "budget",
    "seed",
)  # fmt: skip
_ABSENT = object()
_NAMED = 5
_SHOWN = 3  # names of an order


def plain(value: object) -> str:
    """Return a value of a config as text, equal for equal numbers."""
    if value is _ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if isinstance(value, str):
        return repr(value) if _reads_otherwise(value) else value
    return json.dumps(same_numbers(value), ensure_ascii=False)


def _reads_otherwise(text: str) -> bool:
    """Return whether a text looks like a number, a switch or what is not there."""
    return text in ("", "absent", "null", "true", "false") or _number(text) is not None


def _number(text: str) -> int | float | None:
    """Return the number that a text looks like, if it does."""
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return None


def plain_text(text: str) -> str:
    """Return the value of an override or a condition as `plain` writes it from a config."""
    number = _number(text)
    if number is not None:
        with contextlib.suppress(OverflowError, ValueError):  # infinite, or none at all
            return plain(number)
    if text[:1] in ("[", "{", "'", '"'):
        import yaml

        try:
            return plain(yaml.safe_load(text))
        except yaml.YAMLError:
            return text
    return text


def differences(
    configs: Sequence[Config], seeds: Sequence[int] | None = None
) -> dict[str, list[str | None]]:
    """Return key -> each run's value, for every key that tells runs apart beyond their seeds.

    A value that is its own run's seed, as interpolation leaves it, is None: such runs are alike.

    Args:
        configs: Resolved configs, one per run.
        seeds: Their seeds; None where the configs have nothing to do with a seed.
    """
    found: dict[str, list[object]] = {}
    _walk("", [_inside(config) for config in configs], found)
    kinds = {
        key: [plain(value) for value in values] if seeds is None else _kinds(values, seeds)
        for key, values in found.items()
    }
    return {key: [*values] for key, values in kinds.items() if len(set(values)) > 1}


def _inside(config: Config) -> dict[str, object]:
    kept = {key: value for key, value in config.items() if key not in _OUTSIDE}
    if kept.get("detector") is None:  # as in results from before there was any
        kept.pop("detector", None)
    evaluation = dict(kept.pop("evaluation", None) or {})
    evaluation.pop("batch_size", None)
    return {**kept, "evaluation": evaluation}


def _walk(key: str, values: Sequence[Any], found: dict[str, list[object]]) -> None:
    """Collect the leaves that are not the same in all; equal branches cost one comparison."""
    first = _text(values[0])
    if all(_text(value) == first for value in values[1:]):
        return
    prefix = f"{key}." if key else ""
    if all(isinstance(value, Mapping) for value in values):
        for name in dict.fromkeys(name for value in values for name in value):
            _walk(f"{prefix}{name}", [value.get(name, _ABSENT) for value in values], found)
        if _is_ordered(key, values):
            found[f"{prefix}order"] = [_order(value) for value in values]
    elif all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        for i, items in enumerate(zip(*values, strict=True)):
            _walk(f"{prefix}{i}", items, found)
    else:
        found[key] = list(values)


def _text(value: object) -> object:
    """Return what differs wherever values do: ``==`` takes 1 for true and sees no order."""
    return value if value is _ABSENT else json.dumps(value)


def _is_ordered(key: str, values: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the same names may stand in another order, and whether that counts.

    In the data it does: the order of classes gives their indices, that of colors what is drawn. The
    fields of a class are told by their names.
    """
    return (
        key.startswith("data.")
        and all(value.keys() == values[0].keys() for value in values[1:])
        and not any("_target_" in value for value in values)
    )


def _order(value: Mapping[str, Any]) -> str:
    names = list(value)
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} ({digest(names)[:4]})"


def _kinds(values: Sequence[object], seeds: Sequence[int]) -> list[str | None]:
    texts = [plain(value) for value in values]
    # A value that some run has although its seed is another was set, not taken from the seed.
    certain = {text for text, seed in zip(texts, seeds, strict=True) if text != str(seed)}
    return [
        text if text in certain or text != str(seed) else None
        for text, seed in zip(texts, seeds, strict=True)
    ]


def variants(configs: Sequence[Config], seeds: Sequence[int]) -> list[str]:
    """Return what is special about each run, such as ``steps=100``, alike for runs of one mean.

    A value that more than half of the runs have is left out, so the usual run has an empty name.

    Args:
        configs: Resolved configs, one per run.
        seeds: Their seeds.
    """
    found = differences(configs, seeds)
    if not found:
        return [""] * len(configs)
    keys = short_names(list(found), reserved=("seed",))
    usual = [_usual(values) for values in found.values()]
    names: dict[tuple[str | None, ...], str] = {}
    for signature in dict.fromkeys(zip(*found.values(), strict=True)):
        parts = [
            f"{key}={'seed' if value is None else value}"
            for key, value, common in zip(keys, signature, usual, strict=True)
            if value != common
        ]
        name = ", ".join(parts[:_NAMED])
        if len(parts) > _NAMED:
            name += f", {len(parts) - _NAMED} more"
        if name in names.values():  # they differ in what is cut off
            name = f"{len(names) + 1}: {name}"
        names[signature] = name
    return [names[signature] for signature in zip(*found.values(), strict=True)]


def _usual(values: Sequence[str | None]) -> str | object | None:
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else _ABSENT
