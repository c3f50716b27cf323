"""What a complete stage notes of itself, ``stage.json``: its files and how they were made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from experiments.files import Fingerprint, fingerprint, read_json, sha256
from experiments.stages.keys import StageKey
from experiments.stages.system import peak_memory_mib, versions

MANIFEST = "stage.json"


class Manifest(TypedDict, total=False):
    """Content of ``stage.json``.

    Attributes:
        key, hash: Of the stage.
        files: Path below its folder -> hash and size.
        seconds: How long it took, counted from where it went on if it was resumed.
        resumed: Whether it went on from an interrupted attempt.
        peak_memory_mib: Most memory of the process meanwhile.
        versions: Of the packages that decide numbers.
    """

    key: Mapping[str, object]
    hash: str
    files: dict[str, Fingerprint]
    seconds: float
    resumed: bool
    peak_memory_mib: float
    versions: dict[str, str]


def read_manifest(folder: Path) -> Manifest:
    """Return what a stage notes of itself.

    Raises:
        OSError, ValueError, TypeError, KeyError: If it cannot be read, or lists no files.
    """
    plain = read_json(folder / MANIFEST)
    manifest = {**plain, "files": dict(plain["files"])}
    return cast(Manifest, manifest)


def write_manifest(folder: Path, key: StageKey, seconds: float, resumed: bool) -> None:
    """Note all files below a folder, and put them and the note onto the disk."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        key=key.plain,
        hash=key.hash,
        files={path.relative_to(folder).as_posix(): fingerprint(path) for path in paths},
        seconds=seconds,
        resumed=resumed,
        peak_memory_mib=peak_memory_mib(),
        versions=versions(),
    )
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*paths, folder / MANIFEST):
        sync(path)
    for path in {path.parent for path in paths} | {folder}:
        sync(path)


def fault(path: Path, noted: Fingerprint) -> str | None:
    """Return what is wrong with a file; None if it is as it was noted."""
    try:
        size = path.stat().st_size
        if size != noted["bytes"]:
            return f"has {size} of {noted['bytes']} bytes"
        return None if sha256(path) == noted["sha256"] else "has another SHA-256"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (KeyError, TypeError):
        return f"is not described in {MANIFEST}"


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
