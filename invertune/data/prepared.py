"""Pictures looked at once: which can be used, what is special about them, and a copy that is fast.

The first use of a part decodes each of its pictures, on all cores; what was done stays done when
that is interrupted. With ``keep`` the pixels stay in one file that is mapped into memory, so that
no epoch decodes anything again; without, only what was found out about each picture stays.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import logging
import mmap
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from invertune.data.images import Images
from invertune.data.listing import Listing, Place, ReadBytes
from invertune.data.pictures import BrokenPictureError, Fitting, Kind, read_picture
from invertune.progress import progress

log = logging.getLogger(__name__)

_CHUNK = 64  # pictures that a thread takes at once
# Bytes of pictures that are read before their pages are let go: with every page that is looked at,
# the system maps up to fifteen around it.
_RESIDENT = 2**25
_NAMED = 3  # broken pictures that a message names
COMPLETE, UNUSABLE, SPECIAL = "complete.json", "unusable.csv", "special.csv"
_PIXELS, _KINDS_FILE, _BROKEN = "pixels.u8", "kinds.u16", "broken.csv"
# A picture that could not be read: a disk or a path may be to blame, so it is looked at again.
_UNREAD = int(Kind.BROKEN)
_KINDS = {kind: (kind.name or "").lower() for kind in Kind if kind is not Kind.CHECKED}


@dataclass(frozen=True)
class Prepared:
    """The usable pictures of a part.

    Attributes:
        role: Name of the part.
        listing: Its N samples, broken ones left out.
        images: Their pictures.
        contents: (N,) uint64, equal for equal pixels.
        counts: How many were listed, and of which kind they are (`Kind`, in small letters).
        unusable: Name -> why, of what was left out; what was refused before it was drawn, too.
    """

    role: str
    listing: Listing
    images: Images
    contents: NDArray[np.uint64]
    counts: dict[str, int]
    unusable: dict[str, str]

    def take(self, chosen: NDArray[np.int64]) -> Prepared:
        """Return the chosen samples alone."""
        return Prepared(
            self.role,
            self.listing.take(chosen.tolist()),
            self.images.take(torch.from_numpy(chosen)),
            self.contents[chosen],
            self.counts,
            self.unusable,
        )


@dataclass(frozen=True)
class Preparing:
    """How a part is prepared.

    Attributes:
        folder: What is known of the part stays there.
        fitting: Size of its pictures.
        keep: Whether their pixels stay there, too.
        limit: Share of a part that may be unusable.
        workers: Threads that decode; None for as many as there are cores.
        again: Whether what could not be read is tried again. Else that is done only after the part
            was refused: a run that took it for broken is of the others.
    """

    folder: Path
    fitting: Fitting
    keep: bool = True
    limit: float = 0.05
    workers: int | None = None
    again: bool = False

    def __call__(self, role: str, listing: Listing, read: ReadBytes) -> Prepared:
        """Look at every picture that was not looked at before, and return the usable ones.

        Raises:
            ValueError: If more than ``limit`` cannot be used.
            OSError: If the disk refuses, or has no room for the pixels.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            self._limited(role, listing.refused, listing.offered, {})
            work = _Work(self, role, listing, read)
            work.run()
            # Copies: another process may go on with the files.
            kinds, contents, broken = np.array(work.kinds), np.array(work.contents), work.reasons()
            try:
                self._limited(role, broken, len(listing), listing.refused)
            except ValueError:
                work.forget_unread()
                raise
            _write_reasons(self.folder / UNUSABLE, listing.refused | broken)
        good = np.flatnonzero((kinds & Kind.BROKEN) == 0)
        images = Images(work.source(), len(listing))
        counts = {"listed": len(listing), **_counted(kinds)}
        whole = Prepared(role, listing, images, contents, counts,
                         listing.refused | broken)  # fmt: skip
        return whole if len(good) == len(listing) else whole.take(good)

    def _limited(self, role: str, why: dict[str, str], count: int, more: dict[str, str]) -> None:
        bad = len(why)
        if bad <= self.limit * count:
            return
        _write_reasons(self.folder / UNUSABLE, more | why)
        first = "; ".join(f"{name}: {why[name]}" for name in list(why)[:_NAMED])
        raise ValueError(
            f"{role}: {bad} of {count} samples ({bad / count:.1%}) cannot be used, more than "
            f"broken_limit={self.limit:g}: {first:.300}; all in {self.folder / UNUSABLE}"
        )


class _Work:
    """The files of a part, and the pass over its pictures."""

    def __init__(self, how: Preparing, role: str, listing: Listing, read: ReadBytes) -> None:
        self.how, self.role, self.listing, self.read = how, role, listing, read
        count, size = len(listing), how.fitting.size
        self.shape = (count, 3, size, size)
        self.kinds: np.memmap[Any, np.dtype[np.uint16]] = self._mapped(
            _KINDS_FILE, np.uint16, count
        )
        self.contents: np.memmap[Any, np.dtype[np.uint64]] = self._mapped(
            "contents.u64", np.uint64, count
        )
        self.size = 3 * size * size  # bytes of a picture
        self._pixels: int | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Look at what was not looked at yet."""
        complete = self.how.folder / COMPLETE
        size = self.size * len(self.listing)
        # Pixels that were not kept before, or are gone, are not there for being looked at once.
        if self.how.keep and not self._is_there(_PIXELS, size):
            self.kinds[:] = 0
            self.kinds.flush()
            for name in (COMPLETE, _BROKEN):
                (self.how.folder / name).unlink(missing_ok=True)
            self._room(_PIXELS, size)
        if self.how.again:
            self.forget_unread()
        if complete.is_file() and self.kinds.all():
            return
        if not self.how.keep:  # what is looked at now has no pixels there
            (self.how.folder / _PIXELS).unlink(missing_ok=True)
        with self._writing():
            self._read_all()
        special = np.flatnonzero(self.kinds & ~np.uint16(Kind.CHECKED | Kind.BROKEN))
        told = {self.listing.ids[i]: " ".join(_named(int(self.kinds[i]))) for i in special.tolist()}
        _write_reasons(self.how.folder / SPECIAL, told)
        counted = {"listed": len(self.listing), **_counted(self.kinds)}
        partial = complete.with_suffix(".partial")
        partial.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")
        partial.replace(complete)

    def reasons(self) -> dict[str, str]:
        """Return why pictures cannot be used, by their names; of several lines the last counts."""
        broken = np.flatnonzero(self.kinds & Kind.BROKEN).tolist()
        known = _read_reasons(self.how.folder / _BROKEN) if broken else {}
        names = [self.listing.ids[i] for i in broken]
        return {name: known.get(name, "it cannot be used") for name in names}

    def forget_unread(self) -> None:
        """Let what could not be read be looked at as if nobody had."""
        self.kinds[self.kinds == _UNREAD] = 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the file of pixels open; what is written to it takes no memory, as a map would."""
        if not self.how.keep:
            yield
            return
        self._pixels = os.open(self.how.folder / _PIXELS, os.O_WRONLY)
        try:
            yield
        finally:
            os.close(self._pixels)
            self._pixels = None

    def _read_all(self) -> None:
        places = self.listing.places
        todo = [int(i) for i in np.flatnonzero(self.kinds == 0)]
        todo.sort(key=lambda i: places[i])  # in the order in which they lie
        chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
        with ThreadPoolExecutor(_workers(self.how.workers)) as pool:
            try:
                seen = pool.map(self._look, chunks)
                for _ in progress(seen, f"read {self.role}", total=len(chunks)):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def source(self) -> Any:
        """Return a function from indices to pictures, as `Images` takes it."""
        if self.how.keep:
            path = self.how.folder / _PIXELS
            return _Mapped(np.memmap(path, dtype=np.uint8, mode="r", shape=self.shape))
        return _Decoded(self.listing, self.read, self.how.fitting, _workers(self.how.workers))

    def _look(self, chunk: Sequence[int]) -> None:
        for i in chunk:
            place = self.listing.places[i]
            try:
                picture, kind = read_picture(self.read(place), self.how.fitting)
            except (BrokenPictureError, OSError, ValueError) as error:
                self._refuse(i, error)
                continue
            pixels = picture.numpy().tobytes()
            digest = blake2b(pixels, digest_size=8).digest()
            self.contents[i] = int.from_bytes(digest, "little")
            if self._pixels is not None:
                os.pwrite(self._pixels, pixels, i * self.size)
            self.kinds[i] = kind  # last: an interrupted picture is looked at again

    def _refuse(self, i: int, error: Exception) -> None:
        why, kind = f"{error}", int(Kind.CHECKED | Kind.BROKEN)
        if isinstance(error, OSError):
            kind = _UNREAD
            if error.strerror:
                why = ": ".join(filter(None, [error.strerror, str(error.filename or "")]))
        with (
            self._lock,
            (self.how.folder / _BROKEN).open("a", newline="", encoding="utf-8") as handle,
        ):
            handle.write("\n")  # after half a line of a process that was killed
            csv.writer(handle).writerow([self.listing.ids[i], why])
        self.kinds[i] = kind

    def _mapped(self, name: str, kind: Any, count: int) -> Any:
        """Return a small file as an array."""
        self._room(name, count * np.dtype(kind).itemsize)
        return np.memmap(self.how.folder / name, dtype=kind, mode="r+", shape=(count,))

    def _is_there(self, name: str, size: int) -> bool:
        path = self.how.folder / name
        return path.is_file() and path.stat().st_size == size

    def _room(self, name: str, size: int) -> None:
        """Take room on the disk for a file of zeros, if it is not there."""
        if not self._is_there(name, size):
            _reserve(self.how.folder / name, size)


def _reserve(path: Path, size: int) -> None:
    """Make a file of zeros.

    Raises:
        OSError: If the disk has no room for it; nothing of it stays.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # Without it a full disk would end the process by a signal, in the middle of the work.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:  # macOS
            os.ftruncate(handle, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        free = os.statvfs(path.parent)
        raise OSError(
            error.errno,
            f"no room for {_told(size)}, {_told(free.f_bavail * free.f_frsize)} are free: "
            "take a smaller count, another cache folder, or keep=false",
            str(path),
        ) from error
    finally:
        os.close(handle)


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 9.5e8 else f"{size / 1e6:.3g} MB"


@dataclass(frozen=True, eq=False)
class _Mapped:
    """Pictures of a mapped file."""

    pixels: NDArray[np.uint8]
    _read: list[int] = field(default_factory=lambda: [0])

    def __call__(self, index: Tensor) -> Tensor:
        found = torch.from_numpy(self.pixels[index.numpy()])
        self._read[0] += found.nbytes
        if self._read[0] > _RESIDENT:
            self._forget()
        return found

    def _forget(self) -> None:
        """Let the pages go: they stay in the system's cache as long as nobody needs the memory."""
        self._read[0] = 0
        mapped = getattr(self.pixels, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Pictures that are decoded where they are used."""

    listing: Listing
    read: ReadBytes
    fitting: Fitting
    workers: int

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers)

    def __call__(self, index: Tensor) -> Tensor:
        found = torch.empty(len(index), 3, self.fitting.size, self.fitting.size, dtype=torch.uint8)
        wanted = list(enumerate(index.tolist()))
        step = max(1, -(-len(wanted) // self.workers))
        parts = [wanted[start : start + step] for start in range(0, len(wanted), step)]
        for _ in self._pool.map(lambda part: self._fill(found, part), parts):
            pass
        return found

    def _fill(self, found: Tensor, wanted: Sequence[tuple[int, int]]) -> None:
        for row, i in wanted:
            place: Place = self.listing.places[i]
            try:
                found[row] = read_picture(self.read(place), self.fitting)[0]
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{self.listing.ids[i]} could be read before, and cannot now: {error}"
                ) from error


def _workers(wanted: int | None) -> int:
    return wanted or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4


def _counted(kinds: NDArray[np.uint16]) -> dict[str, int]:
    return {name: int(((kinds & kind) != 0).sum()) for kind, name in _KINDS.items()}


def _named(kinds: int) -> list[str]:
    return [name for kind, name in _KINDS.items() if kinds & kind]


def _write_reasons(path: Path, told: dict[str, str]) -> None:
    """Write a line for each name, or no file where there is none."""
    if not told:
        path.unlink(missing_ok=True)
        return
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(told.items())
    partial.replace(path)


def _read_reasons(path: Path) -> dict[str, str]:
    """Return what `_write_reasons` wrote, or single lines after it."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        return dict(_two(row) for row in csv.reader(handle) if row)


def _two(row: Sequence[str]) -> tuple[str, str]:
    return (row[0], row[1]) if len(row) > 1 else ("".join(row), "")


def repeated(contents: NDArray[np.uint64]) -> int:
    """Return how many pictures another one of the same part equals."""
    counts = Counter(contents.tolist())
    return sum(count - 1 for count in counts.values())


def shared(first: Prepared, second: Prepared) -> Iterator[tuple[int, int]]:
    """Yield the places of samples of two parts that are one: by their names or by their pixels."""
    by_name = {name: i for i, name in enumerate(first.listing.ids)}
    by_content = dict(zip(first.contents.tolist(), range(len(first.contents)), strict=True))
    pairs = zip(second.listing.ids, second.contents.tolist(), strict=True)
    for j, (name, content) in enumerate(pairs):
        i = by_name.get(name, by_content.get(content))
        if i is not None:
            yield i, j
