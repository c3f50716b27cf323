"""What lies at a path, as a short text that another place or time does not change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_WHOLE = 2**30  # bytes; of larger files the ends count
_END = 2**22
_ENDS = 2**16  # of a shard
_RANGE = re.compile(r"\{[^}]*\}")


_KNOWN: ContextVar[dict[str, str] | None] = ContextVar("fingerprints", default=None)


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Take what lies at a path for the same throughout the block: nothing is read twice."""
    token = _KNOWN.set({} if _KNOWN.get() is None else _KNOWN.get())
    try:
        yield
    finally:
        _KNOWN.reset(token)


def fingerprint(path: str) -> str:
    """Return 16 hexadecimal digits for what a path means, wherever it is.

    Of a file its bytes count, of a folder the names and sizes of all files below, of a range of
    shards those of its files. A path where there is nothing, such as a name on a hub, stands for
    itself.

    Args:
        path: Of a file or a folder; with a range in braces, such as ``{0000..0331}``, of many.

    Raises:
        OSError: If something is there and cannot be read.
    """
    known, place = _KNOWN.get(), str(Path.cwd() / path)
    if known is None:
        return _fingerprint(path)
    if place not in known:
        known[place] = _fingerprint(path)
    return known[place]


def _fingerprint(path: str) -> str:
    found = Path(path)
    sha = hashlib.sha256()
    if found.is_file():
        _add_file(sha, found)
    elif found.is_dir():
        for name, size in sorted(files_below(found)):
            sha.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    elif "{" in path:
        for one in sorted(found.parent.glob(_RANGE.sub("*", found.name))):
            sha.update(f"{one.name}\0{one.stat().st_size}\0".encode())
        sha.update(_RANGE.search(found.name)[0].encode() if _RANGE.search(found.name) else b"")  # type: ignore[index]
    else:
        sha.update(path.encode())
    return sha.hexdigest()[:16]


def mark_of(path: Path) -> str:
    """Return 8 hexadecimal digits for a file by its name, size and both ends, wherever it is.

    Raises:
        OSError: If there is none.
    """
    size = path.stat().st_size
    sha = hashlib.sha256(f"{path.name}\0{size}\0".encode())
    with path.open("rb") as handle:
        sha.update(handle.read(_ENDS))
        handle.seek(max(0, size - _ENDS))
        sha.update(handle.read(_ENDS))
    return sha.hexdigest()[:8]


def _add_file(sha: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as handle:
        if size <= _WHOLE:
            while block := handle.read(_END):
                sha.update(block)
            return
        sha.update(f"{size}".encode())
        sha.update(handle.read(_END))
        handle.seek(size - _END)
        sha.update(handle.read(_END))


def files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the files below a folder: their paths, relative to it and with slashes, and sizes.

    Hidden ones are left out. Links to folders are followed, but never to one that they lie in; of a
    link to nothing the size is -1.

    Raises:
        OSError: If a folder cannot be read.
    """
    yield from _below(folder, "", (_identity(folder),))


def _below(
    folder: Path, prefix: str, around: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                own = _identity(Path(entry.path))
                if own not in around:
                    yield from _below(Path(entry.path), f"{name}/", (*around, own))
                continue
            try:
                yield name, entry.stat().st_size
            except FileNotFoundError:
                yield name, -1


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
