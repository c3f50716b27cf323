"""A parameter's default, read from the YAML that a run chose."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import CONF
from experiments.results.measures import lookup
from experiments.results.runs import Run
from experiments.yamls import read_yaml

# A YAML, or one of its branches.
_Tree = dict[str, Any]


def default_of(key: str, run: Run | None, conf: Path = CONF) -> float | None:
    """Return a parameter's value in the YAML that a run chose, None where it has none.

    Args:
        key: As in an override: ``defense.tune.clusters``, ``attack.poison_rate``.
        run: The run, which names the choice of each group; None has no choice.
        conf: Folder of the configs.
    """
    group, _, rest = key.partition(".")
    choice = lookup(run.result, f"{group}/name") if run is not None and rest else None
    if choice is None:
        return None
    value = _descend(_choice(conf, group, str(choice)), rest.split("."))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@functools.cache
def _choice(conf: Path, group: str, choice: str) -> _Tree:
    """Return one YAML of a group over those that its defaults list names.

    Args:
        conf: Folder of the configs.
        group: Such as ``defense``.
        choice: The YAML's name in its group, or what it says under ``name``.
    """
    tree = dict(_trees(conf, group).get(choice, {}))
    base: _Tree = {}
    for entry in tree.pop("defaults", []):
        if isinstance(entry, str) and entry not in ("_self_", choice):
            name = entry.partition("@")[0].removeprefix(f"/{group}/")
            base = _merge(base, _choice(conf, group, name))
    return _merge(base, tree)


@functools.cache
def _trees(conf: Path, group: str) -> dict[str, _Tree]:
    folder = conf / group
    found: dict[str, _Tree] = {}
    for path in sorted(folder.rglob("*.yaml"), reverse=True):
        tree = read_yaml(path)
        if isinstance(tree, dict):
            found.setdefault(str(tree.get("name", path.stem)), tree)
            found[path.relative_to(folder).with_suffix("").as_posix()] = tree
    return found


def _merge(below: _Tree, above: _Tree) -> _Tree:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _descend(tree: object, parts: Sequence[str]) -> object:
    for part in parts:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree
