"""Files that are there whole or not at all, and the hashes that tell so."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict


class Fingerprint(TypedDict):
    """What tells whether a file is as it was."""

    sha256: str
    bytes: int


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write to, which becomes ``path`` in one step at the end of the block.

    After an error ``path`` is as it was, and what was written is gone.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(path: Path) -> Fingerprint:
    """Return the SHA-256 and the size of a file, as stages and cards note them."""
    return Fingerprint(sha256=sha256(path), bytes=path.stat().st_size)


def canonical(value: object) -> str:
    """Return JSON in which equal values have equal text.

    The order of keys stays: in a mapping such as the data's classes it gives the class index.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of `canonical`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
