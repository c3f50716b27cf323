"""The config of a run, what names it, and the presets of ``conf/``."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from experiments.files import digest
from experiments.names import LONGEST, plain_name
from experiments.yamls import read_yaml

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).resolve().parent.parent / "conf"
PRESETS = CONF / "experiment"
# A resolved config, or a part of one: plain values, which the classes it names check.
Config: TypeAlias = Mapping[str, Any]
# What a part says to the stages and no class takes: which fields of a method are a stage of their
# own, and whether a model may come with the package.
STAGES, SHIPPED = "_stages_", "shipped"
# Of a drawn world: further clean images for a defense; no poison and no test image depends on it.
MORE_CLEAN = "more_clean"
PATH = "path"  # of a model: where its weights lie, which no number depends on
# Whole numbers that keep the fraction of 1.0, by the ends of their keys: YAMLs write them so, and
# keys of stages made before hold them so. All others are written without.
_WITH_FRACTION = frozenset(
    (
        "activation", "align", "alpha", "beta", "clean_gain", "clip", "cross_modal", "delta",
        "distance", "emb", "embedding", "gamma", "mask", "mix", "optimize.margin", "preserve",
        "reference_weight", "scale", "sim", "similarity", "strength", "teacher_weight",
        "utility_weight", "visual_weight", "weight_decay",
    )
)  # fmt: skip
_DETECTOR = 32  # bytes of its name: what three others, a seed and an id leave in a folder's
_EXACT = 2**53  # up to here every whole number is a float
# What a machine or a user decides, and numbers do not depend on; what a budget decides stands where
# it counts, in the data and in the defense.
_OUTSIDE = (
    "device", "threads", "processes", "speed", "runs_dir", "tracking", "experiment", "budget",
)  # fmt: skip


def plain_config(composed: DictConfig) -> Config:
    """Return the resolved config of one run, without what Hydra and the sweep need of it."""
    from omegaconf import OmegaConf, open_dict, read_write  # tables do without

    config = composed.copy()
    with read_write(config), open_dict(config):
        for key in ("hydra", "experiment"):
            config.pop(key, None)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def result_id(config: Config) -> str:
    """Return 16 hexadecimal digits that name a resolved config."""
    kept = {key: value for key, value in config.items() if key not in _OUTSIDE}
    if isinstance(kept.get("model"), Mapping):
        kept["model"] = placeless(kept["model"])
    for group in ("attack", "defense"):  # where stages begin and end changes no number
        if group in kept:
            kept[group] = {key: value for key, value in kept[group].items() if key != STAGES}
    if "evaluation" in kept:
        own = {key: value for key, value in kept["evaluation"].items() if key != "batch_size"}
        kept["evaluation"] = own
    if kept.get("detector") is None:  # runs were without before there was any
        kept.pop("detector", None)
    return digest(same_numbers(kept))[:16]


def placeless(model: Config) -> Config:
    """Return a model's config without the place of its weights, its teacher's too."""
    return {
        name: placeless(value) if name == "teacher" and isinstance(value, Mapping) else value
        for name, value in model.items()
        if name != PATH
    }


def same_numbers(value: object, key: str = "") -> object:
    """Return a part of a config in which equal numbers are of one type, so that 0 and 0.0 are one.

    Args:
        value: The part.
        key: Its key, with dots.
    """
    if isinstance(value, Mapping):
        return {name: same_numbers(own, f"{key}.{name}") for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [same_numbers(own, key) for own in value]
    whole = isinstance(value, int | float) and abs(value) <= _EXACT and value == int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not whole:
        return value
    ends = (key.rpartition(".")[2], ".".join(key.split(".")[-2:]))
    return float(int(value)) if _WITH_FRACTION.intersection(ends) else int(value)


def class_fields(part: Config) -> dict[str, Any]:
    """Return what a part of the config says to its class, in a model's teacher as well."""
    return {
        key: class_fields(value) if key == "teacher" and isinstance(value, Mapping) else value
        for key, value in part.items()
        if key not in (STAGES, SHIPPED)
    }


def part_names(config: Config, choices: Mapping[str, object]) -> list[str]:
    """Return the names of model, attack, defense and detector, which become the run's folder.

    A run without a detector has three.

    Args:
        config: The resolved config.
        choices: Group -> name of its YAML, for a part without a ``name`` of its own.

    Raises:
        ValueError: If a name, or that of the data, is not a plain one.
    """
    names = {}
    for group in ("data", "model", "attack", "defense", "detector"):
        part = config.get(group)
        if part is None and group == "detector":
            continue
        if not isinstance(part, Mapping):
            raise ValueError(f"{group} is one of conf/{group}, got {part!r:.80}")
        file = Path(str(choices.get(group, group))).name  # a choice may be in a folder
        longest = _DETECTOR if group == "detector" else LONGEST
        names[group] = plain_name(part.get("name", file), f"{group}.name", longest)
    return [name for group, name in names.items() if group != "data"]


def run_name(config: Config, parts: Sequence[str]) -> str:
    """Return the name of a run's folder, ``<model>-<attack>-<defense>-seed<seed>-<id>``.

    The name of a detector stands after the defense's.
    """
    return "-".join([*parts, f"seed{config['seed']}", result_id(config)[:8]])


def short_names(keys: Sequence[str], reserved: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the ends of dotted keys, each with as many parts as tell it from the others.

    Args:
        keys: Such as ``defense.tune.steps``.
        reserved: Ends that mean something else; a key of one part keeps its name all the same.
    """
    names = []
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts))]
        alone = (
            end for end in ends
            if end not in reserved
            and not any(f".{other}".endswith(f".{end}") for other in keys if other != key)
        )  # fmt: skip
        names.append(next(alone, key))
    return tuple(names)


def experiment_id(value: object) -> str | None:
    """Return the id that a config's ``experiment`` has: itself, or its field ``id``."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return None if found is None else str(found)


@functools.cache
def preset_fields(folder: Path = PRESETS) -> Mapping[Path, object]:
    """Return what the presets of a folder have as ``experiment``, by file, read without Hydra.

    Raises:
        ValueError: If there is a mistake in a file.
    """
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        content = read_yaml(path)
        if isinstance(content, dict) and content.get("experiment"):
            found[path] = content["experiment"]
    return found


def presets() -> dict[str, str]:
    """Return preset -> id of the experiment, as ``conf/experiment`` has them."""
    ids = {path.stem: experiment_id(value) for path, value in preset_fields().items()}
    return {name: id_ for name, id_ in ids.items() if id_ is not None}
