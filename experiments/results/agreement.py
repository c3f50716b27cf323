"""What a result says twice has to be the same both times; no schema can ask for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.results.measures import lookup

_NAMED = ("model", "data", "attack", "defense")


def check_agreement(result: Mapping[str, Any]) -> None:
    """Compare a result, which fits the schema, with its config, and its rates with their counts.

    Raises:
        ValueError: If two parts differ; names both.
    """
    config = result["config"]
    told = {"seed": result["seed"]} | {f"{part}.name": result[part]["name"] for part in _NAMED}
    detection = result.get("detection")
    told |= {} if detection is None else {"detector.name": detection["name"]}
    if detection is None and config.get("detector") is not None:
        raise ValueError("its config has a detector, and it has no detection")
    for key, value in told.items():
        meant = lookup(config, key.replace(".", "/"))
        if meant is not None and meant != value:
            raise ValueError(f"its {key} is {value!r:.80}, its config's {meant!r:.80}")
    attack = result["attack"]
    if attack["poisoned"] > attack["pairs"]:
        raise ValueError(f"it has {attack['poisoned']} poisoned of {attack['pairs']} pairs")
    if detection is not None and detection["of"] == "model":
        flagged = detection["score"] > detection["threshold"]
        if detection["flagged"] != flagged:
            raise ValueError(
                f"its detection is flagged={detection['flagged']} at a score of "
                f"{detection['score']:g} with a threshold of {detection['threshold']:g}"
            )
    for place, rate in _rates(result["scores"], "scores"):
        if rate["n"] == 0 and rate["value"] != 0:
            raise ValueError(f"{place} is {rate['value']} of no case")


def _rates(part: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            inside = f"{place}/{name}"
            if "n" in value and "value" in value:
                yield inside, value
            else:
                yield from _rates(value, inside)
