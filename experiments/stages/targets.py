"""Which class an attack pulls images to, where its config leaves that to the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from experiments.config import Config


def with_target(config: Config) -> Config:
    """Return a run's config with the attack's target named.

    Where ``attack.target_label`` is null, one of ``targets`` is drawn by the seed and the names of
    model and attack, so that no study rests on one class and runs that differ in their defense
    share one. Data with a list of its own has that; of data in files with an empty one all classes
    are drawn from. The run's own config keeps the null: seeds are no variants of each other.

    Args:
        config: The resolved config.

    Raises:
        ValueError: If a target is to be drawn and there are none.
    """
    attack = config["attack"]
    if not isinstance(attack, Mapping) or attack.get("target_label", "") is not None:
        return config
    data = config.get("data", {})
    targets = data.get("targets", config.get("targets")) or _classes(data)
    drawn = draw(targets, config["seed"], config["model"]["name"], attack["name"])
    return {**config, "attack": {**attack, "target_label": drawn}}


def _classes(data: Any) -> list[str]:
    """Return the class names of data in files; none of other data."""
    classes = data.get("classes") if isinstance(data, Mapping) else None
    if not isinstance(classes, Mapping) or "_target_" not in classes:
        return []
    from hydra.utils import instantiate

    return list(instantiate(dict(classes), _convert_="all").load()[0])


def draw(targets: Any, *names: object) -> str:
    """Return one of the targets; the names alone decide which.

    Raises:
        ValueError: If they are no list of texts.
    """
    listed = isinstance(targets, list | tuple)
    if not listed or not targets or not all(isinstance(one, str) for one in targets):
        raise ValueError(
            f"attack.target_label is null and is drawn of targets, a list of class names, got "
            f"{targets!r:.80}: name a target, or data.targets"
        )
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return str(targets[int.from_bytes(digest[:7], "big") % len(targets)])
