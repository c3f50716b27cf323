"""What torch writes: its zip archives, TorchScript's among them, and the pickles before them."""

from __future__ import annotations

import contextlib
import io
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from invertune.clip.architectures import FORMATS
from invertune.clip.pickle_values import Odd, RefusedError, Script, Storage, View
from invertune.clip.pickles import MAX_NAME, MAX_TENSORS, Storages, read_pickle
from invertune.clip.zips import Archive, is_zip, read_zip

_DEEPEST = 100  # modules in modules
_LARGEST_PICKLE = 64 * 2**20  # bytes; the tensors' own are elsewhere
_OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled


class _DamagedError(ValueError):
    """A file is no checkpoint as torch writes them; the message does not name it."""


def read_torch(path: Path) -> Any:
    """Return what a file of torch's describes: plain values, and a `View` for each tensor.

    Raises:
        ValueError: If it is none, damaged, or holds more than data.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
    with _told(path):
        if is_zip(head):
            return _zipped(read_zip(path))
        if head[:1] == b"\x80":
            return _old(path)
    raise ValueError(f"{path} is no checkpoint; choices: {FORMATS}")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with its pickle."""
    try:
        yield
    except RefusedError as error:
        raise ValueError(
            f"{path} is refused: its pickle {error!s:.200} and is not executed; "
            "save a state dict alone"
        ) from error
    except _DamagedError as error:
        raise ValueError(f"{path} is a damaged checkpoint: {error}") from error


def _zipped(archive: Archive) -> Any:
    """Return what the pickle of torch's archive describes."""
    root = archive.root
    pickled = None if root is None else archive.stored[f"{root}data.pkl"]
    if pickled is None:
        raise ValueError(f"{archive.path} is no checkpoint; choices: {FORMATS}")
    order = bytes(archive.stored.get(f"{root}byteorder", b"little")[:8])
    if order != b"little":
        raise _DamagedError(f"its byte order is {order!r}, not little")
    known: dict[tuple[str, torch.dtype], Storage] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        content = archive.stored.get(f"{root}data/{key}")
        if content is None or count * dtype.itemsize > len(content):
            raise _DamagedError(f"the storage {key!r:.40} is missing or too small")
        return known.setdefault((key, dtype), Storage(dtype, count, content))

    return _unpickled(io.BytesIO(_limited(pickled)), storage)


def _old(path: Path) -> Any:
    """Return what a file of torch before 1.6 describes: pickles, then the storages one by one."""
    known: dict[str, Storage] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        return known.setdefault(key, Storage(dtype, count))

    with path.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
    pickles = io.BytesIO(content)
    if bytes(content[: len(_OLD_START)]) != _OLD_START:
        return _unpickled(pickles, storage)  # a pickle of something else, named or refused
    for _ in range(3):  # a number that says what this is, the version, sizes of C's types
        _unpickled(pickles, storage)
    described, keys = _unpickled(pickles, storage), _unpickled(pickles, storage)
    place = pickles.tell()
    for key in keys if isinstance(keys, list) else ():
        found = known.get(key) if isinstance(key, str) else None
        if found is None or place + 8 > len(content):
            raise _DamagedError("its storages are not those that its pickle names")
        (count,) = struct.unpack_from("<q", content, place)
        end = place + 8 + count * found.dtype.itemsize
        if count != found.count or end > len(content):
            raise _DamagedError(f"the storage {key!r:.40} is missing or too small")
        found.content, place = content[place + 8 : end], end
    return described


def _limited(pickled: memoryview) -> memoryview:
    if len(pickled) > _LARGEST_PICKLE:
        raise _DamagedError(f"its pickle is larger than {_LARGEST_PICKLE >> 20} MiB")
    return pickled


def _unpickled(stream: IO[bytes], storage: Storages) -> Any:
    try:
        return read_pickle(stream, storage)
    except (RefusedError, _DamagedError):
        raise
    except ValueError as error:
        raise _DamagedError(str(error)) from error


def flat(path: Path, script: Script) -> dict[str, View | Odd]:
    """Return the tensors of a TorchScript module and of those in it, by their full names."""
    found: dict[str, View | Odd] = {}
    waiting = [("", script, 0)]
    visited = 0
    while waiting:
        prefix, module, depth = waiting.pop()
        visited += 1
        if visited > MAX_TENSORS or depth > _DEEPEST:
            raise ValueError(f"{path} is refused: its modules hold each other")
        for name, value in module.attributes.items():
            if len(prefix) + len(name) > MAX_NAME:
                raise ValueError(f"{path} is refused: a name has over {MAX_NAME} characters")
            if isinstance(value, View | Odd):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, Script):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
    return found
