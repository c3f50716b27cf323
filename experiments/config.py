"""The config of a run, what names it, and the presets of ``conf/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from experiments.files import digest

CONF = Path(__file__).resolve().parent.parent / "conf"
PRESETS = CONF / "experiment"
# What a machine or a user decides, and numbers do not depend on.
_OUTSIDE = ("device", "threads", "runs_dir", "tracking", "experiment")


def plain_config(composed: DictConfig) -> dict[str, Any]:
    """Return the resolved config of one run, without what Hydra and the sweep need of it."""
    config = composed.copy()
    with read_write(config), open_dict(config):
        for key in ("hydra", "experiment"):
            config.pop(key, None)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def result_id(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that name a resolved config."""
    kept = {key: value for key, value in config.items() if key not in _OUTSIDE}
    if "evaluation" in kept:
        own = {key: value for key, value in kept["evaluation"].items() if key != "batch_size"}
        kept["evaluation"] = own
    return digest(kept)[:16]


def part_names(config: Mapping[str, Any], choices: Mapping[str, Any]) -> list[str]:
    """Return the names of model, attack and defense.

    Args:
        config: The resolved config.
        choices: Group -> name of its YAML, for a part without a ``name`` of its own.
    """
    groups = ("model", "attack", "defense")
    return [str(config[group].get("name", choices.get(group))) for group in groups]


def run_name(config: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Return the name of a run's folder, ``<model>-<attack>-<defense>-seed<seed>-<id>``."""
    return "-".join([*parts, f"seed{config['seed']}", result_id(config)[:8]])


def short_names(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the ends of dotted keys, each with as many parts as tell it from the others."""
    names = []
    for key in keys:
        parts = key.split(".")
        others = [other for other in keys if other != key]
        length = next(
            (n for n in range(1, len(parts))
             if not any(f".{other}".endswith("." + ".".join(parts[-n:])) for other in others)),
            len(parts),
        )  # fmt: skip
        names.append(".".join(parts[-length:]))
    return tuple(names)


def presets() -> dict[str, str]:
    """Return preset -> id of the experiment, as ``conf/experiment`` has them."""
    import yaml

    found = {}
    for path in sorted(PRESETS.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("experiment"):
            found[path.stem] = str(content["experiment"])
    return found
