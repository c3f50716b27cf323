"""What a part of a data set lists: samples by name, none of them opened yet."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from invertune.regular import require_regular

_LARGEST = 2**28  # bytes of one encoded picture
_OPEN = 64  # shards that stay open


class Place(NamedTuple):
    """Where an encoded picture lies.

    Attributes:
        file: A path, relative to the part's.
        start: Of its bytes in the file; a row where the file is a table.
        length: Number of bytes; -1 for the whole file.
    """

    file: str
    start: int = 0
    length: int = -1


ReadBytes = Callable[[Place], bytes]  # OSError or ValueError where there is nothing to read


@dataclass(frozen=True)
class Listing:
    """Samples of a part, in an order that only depends on what is there.

    Attributes:
        ids: N names, each one once.
        places: N places of their pictures.
        captions: N lists of captions; None where there are none.
        labels: N class indices; None where there are none.
        refused: Name of what was left out -> why, such as a row without a caption.
        total: How many there were before some of them were drawn, refused ones among them; 0 where
            none were drawn.
    """

    ids: Sequence[str]
    places: Sequence[Place]
    captions: Sequence[Sequence[str]] | None = None
    labels: Sequence[int] | None = None
    refused: dict[str, str] = field(default_factory=dict)
    total: int = 0

    @property
    def offered(self) -> int:
        """How many samples there were, refused ones among them."""
        return self.total or len(self) + len(self.refused)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: Sequence[int]) -> Listing:
        """Return the chosen samples; what was refused stays."""
        return replace(
            self,
            ids=[self.ids[i] for i in chosen],
            places=[self.places[i] for i in chosen],
            captions=None if self.captions is None else [self.captions[i] for i in chosen],
            labels=None if self.labels is None else [self.labels[i] for i in chosen],
        )


@dataclass(frozen=True)
class Files:
    """Reads bytes of the files below a folder; from several threads at once.

    Attributes:
        root: The folder.
    """

    root: Path
    _held: OrderedDict[str, int] = field(default_factory=OrderedDict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __call__(self, place: Place) -> bytes:
        """Return the bytes at a place.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no regular file, ends before, or is larger than a picture is.
        """
        if place.length < 0:
            path = self.root / place.file
            if require_regular(path) > _LARGEST:
                raise ValueError(f"larger than {_LARGEST >> 20} MiB")
            return path.read_bytes()
        if place.length > _LARGEST:
            raise ValueError(f"larger than {_LARGEST >> 20} MiB")
        with self._opened(place.file) as handle:
            data = os.pread(handle, place.length, place.start)
        if len(data) < place.length:
            raise ValueError("ends early")
        return data

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Yield a descriptor of a file, which stays open for the next picture in it."""
        with self._lock:
            handle = self._held.pop(name, None)
        if handle is None:
            handle = os.open(self.root / name, os.O_RDONLY)
        try:
            yield handle
        finally:
            with self._lock:
                # Another thread may have opened it meanwhile; one of the two is enough.
                spare = [self._held.pop(name)] if name in self._held else []
                self._held[name] = handle
                while len(self._held) > _OPEN:
                    spare.append(self._held.popitem(last=False)[1])
            for one in spare:
                os.close(one)
