"""What of a data set decides a stage: of files their content, and only of the parts it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import MORE_CLEAN, Config
from invertune.contents import fingerprint

PARTS = ("pairs", "clean", "zero_shot", "retrieval")
# Where, how fast, and what is refused: no number depends on them.
_APART = ("cache", "keep", "workers", "broken_limit", "targets")
_UNTOLD = ("images_path", "hint", "expected")  # where a table's pictures lie; for messages
# Of a drawn world, what concerns one part alone; all else decides the training of a model.
_OWN = {"clean": (MORE_CLEAN,)}


def reads_files(data: Config) -> bool:
    """Return whether a data set is composed of files, part by part."""
    return all(isinstance(data.get(role), Mapping) and "path" in data[role] for role in PARTS)


def whole(data: Config) -> Config:
    """Return what of a data set decides the training of a model: its pairs, or how it is drawn."""
    if reads_files(data):
        return of_parts(data, ("pairs",))
    apart = [name for names in _OWN.values() for name in names]
    return {name: value for name, value in data.items() if name not in apart}


def further(data: Config, *roles: str) -> Config:
    """Return what of a data set decides a later stage beside its inputs, by the name ``data``.

    Args:
        data: The data set's part of the config.
        roles: Names of the parts that the stage reads.
    """
    if reads_files(data):
        return {"data": of_parts(data, roles)}
    own = {name: data[name] for role in roles for name in _OWN.get(role, ()) if data.get(name)}
    return {"data": own} if own else {}


def of_parts(data: Config, roles: Sequence[str]) -> Config:
    """Return the part of a config that is about some parts of a data set.

    Paths are replaced by what stands for their content: files may move, and may not change.
    """
    wanted = set(roles) if data.get("overlap") != "drop" else set(PARTS)
    for role in PARTS:  # one that another is drawn apart from decides that one, too
        named = data[role].get("apart_from")
        wanted |= {named} if role in wanted and named in PARTS else set()
    kept = {k: v for k, v in data.items() if k not in (*PARTS, *_APART)}
    own = {**kept, **{role: data[role] for role in PARTS if role in wanted}}
    return {name: _content(value) if isinstance(value, Mapping) else value
            for name, value in own.items()}  # fmt: skip


def _content(part: Config) -> dict[str, Any]:
    return {
        name: fingerprint(value) if _is_path(name) and isinstance(value, str) else value
        for name, value in part.items()
        if name not in _UNTOLD
    }


def _is_path(name: str) -> bool:
    return name == "path" or name.endswith("_path")


def without_places(data: Config) -> Config:
    """Return a data set's config with the last names of its paths, for a card to hand over."""
    if not reads_files(data):
        return data
    named = {
        name: {k: _last(v) if _is_path(k) else v for k, v in value.items()}
        if isinstance(value, Mapping) else value
        for name, value in data.items()
    }  # fmt: skip
    return {**named, "cache": "cache"}


def _last(path: Any) -> Any:
    return path.rstrip("/").rpartition("/")[2] if isinstance(path, str) else path
