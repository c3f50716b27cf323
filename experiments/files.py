"""Files that are there whole or not at all, and the hashes that tell so."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from invertune.regular import read_text, require_regular

_LARGEST = 256 * 2**20  # bytes
_DEEPEST = 100  # floors of a JSON file; what walks over it calls itself for each
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")


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


def read_json(path: Path, largest: int = _LARGEST) -> Any:
    """Return the content of a JSON file that somebody else may have written.

    Args:
        path: Of the file; what it holds need not be an object, as in `invertune.regular`.
        largest: Bytes that it may have.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, too large or no JSON, if it is nested too deeply, or
            if it has half a character, which no file takes.
    """
    told = read_text(path, largest)
    try:
        content = json.loads(told)
        text = json.dumps(content, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON, or truncated ({error})") from error
    if _floors(text) > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} floors deep")
    return content


def _floors(text: str) -> int:
    brackets = _BRACKET.findall(_STRING.sub("", text))
    steps = (1 if sign in "[{" else -1 for sign in brackets)
    return max(itertools.accumulate(steps), default=0)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        ValueError: If it is no regular file.
    """
    require_regular(path)
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
