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
        for name, size in sorted(_sizes(found)):
            sha.update(f"{name}\0{size}\0".encode())
    elif "{" in path:
        for one in sorted(found.parent.glob(_RANGE.sub("*", found.name))):
            sha.update(f"{one.name}\0{one.stat().st_size}\0".encode())
        sha.update(_RANGE.search(found.name)[0].encode() if _RANGE.search(found.name) else b"")  # type: ignore[index]
    else:
        sha.update(path.encode())
    return sha.hexdigest()[:16]


def mark_of(path: Path) -> str:
    """Return 8 hexadecimal digits for a file by its name and size, wherever it is.

    Raises:
        OSError: If there is none.
    """
    return hashlib.sha256(f"{path.name}\0{path.stat().st_size}".encode()).hexdigest()[:8]


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


def _leads_back(entry: os.DirEntry[str], folder: Path) -> bool:
    """Return whether a link is one to the folder that it lies in, or to one around that."""
    if not entry.is_symlink():
        return False
    return f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(entry.path)}/")


def _sizes(folder: Path, below: str = "") -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and not _leads_back(entry, folder):
                yield from _sizes(Path(entry.path), f"{name}/")
            else:
                yield name, entry.stat().st_size
