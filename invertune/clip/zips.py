"""Zip archives as torch writes them, read so that no second archive hides in the file.

A zip is found from its end, and its directory says where the entries are; what lies between them no
reader looks at. So one file can be two archives, of which a check sees the one and a reader the
other. Here every byte belongs to an entry, to the one directory or to its end, and the entries that
are read are stored as they are, never packed: nothing can grow.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

# More than a checkpoint of a billion parameters has with its optimizer's state.
MAX_ENTRIES = 50_000
_LARGEST_DIRECTORY = 16 * 2**20  # bytes

_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _DESCRIBED = 1, 8  # flags; of the second, sizes follow the data
_DESCRIPTOR = b"PK\x07\x08"
_DESCRIPTOR_SIZES = (16, 24)


@dataclass(frozen=True)
class Archive:
    """The entries of a zip, by their names.

    Attributes:
        path: The file.
        stored: The content of each entry that is stored as it is, a view of the mapped file;
            writing to one changes a copy of the page, never the file.
        packed: Names of the entries that are compressed; they are not read.
    """

    path: Path
    stored: dict[str, memoryview]
    packed: tuple[str, ...]

    @property
    def root(self) -> str | None:
        """The folder of ``data.pkl``, as in torch's archives; None if there is not just one."""
        found = [name for name in self.stored if name.endswith("/data.pkl")]
        return found[0].removesuffix("data.pkl") if len(found) == 1 else None


def is_zip(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a zip's first entry."""
    return head.startswith(b"PK\x03\x04")


def read_zip(path: Path) -> Archive:
    """Map a zip archive.

    Raises:
        ValueError: If it is damaged, has more than `MAX_ENTRIES`, two entries of one name, or bytes
            that belong to none of its entries.
    """
    with path.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
        directory, count = _directory(path, content)
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error,
                NotImplementedError) as error:  # fmt: skip
            raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    locked = next((entry for entry in entries if entry.flag_bits & _ENCRYPTED), None)
    if locked is not None:
        raise ValueError(f"{path} is refused: its entry {locked.filename!r:.80} is encrypted")
    if len(entries) != count or any(entry.comment for entry in entries):
        raise _second(path)
    # torch's reader finds entries whatever the case of their names.
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise ValueError(f"{path} is refused: two entries of the archive have the same name")
    stored, place = {}, 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        data, after = _bounds(path, content, entry, place, directory)
        if entry.compress_type == zipfile.ZIP_STORED:
            stored[entry.filename] = content[data : data + entry.compress_size]
        place = after
    if place != directory:
        raise _second(path)
    packed = tuple(entry.filename for entry in entries if entry.filename not in stored)
    return Archive(path, stored, packed)


def _directory(path: Path, content: memoryview) -> tuple[int, int]:
    """Return where the directory starts and how many entries it has.

    Raises:
        ValueError: If it and its end are not the last bytes of the file, or too large.
    """
    at = len(content) - _END.size
    if at < 0 or bytes(content[at : at + 4]) != b"PK\x05\x06":
        raise ValueError(f"{path} is a damaged zip archive: its end is not that of one")
    _, _, count, size, start, comment = _unpacked(_END, content, at)
    if bytes(content[at - _LOCATOR.size :][:4]) == b"PK\x06\x07":
        _, told, _ = _unpacked(_LOCATOR, content, at - _LOCATOR.size)
        at -= _LOCATOR.size + _END_64.size
        if at < 0 or told != at or bytes(content[at : at + 4]) != b"PK\x06\x06":
            raise _second(path)
        *_, count, size, start = _unpacked(_END_64, content, at)
    if comment or start + size != at:
        raise _second(path)
    if size > _LARGEST_DIRECTORY:
        raise ValueError(f"{path} has a directory of {size} bytes; a checkpoint's is smaller")
    if count > MAX_ENTRIES:
        raise ValueError(f"{path} has {count} entries; a checkpoint has at most {MAX_ENTRIES}")
    return int(start), int(count)


def _unpacked(form: struct.Struct, content: memoryview, at: int) -> tuple[int, ...]:
    """Return the numbers of a record without its signature; disk numbers are one of them."""
    numbers = form.unpack_from(content, at)[1:]
    return (numbers[0] | numbers[1] << 16, *numbers[2:]) if form is _END else numbers


def _bounds(
    path: Path, content: memoryview, entry: zipfile.ZipInfo, place: int, end: int
) -> tuple[int, int]:
    """Return where an entry's data starts, and where the entry ends.

    Args:
        path: For messages.
        content: The file.
        entry: What the directory says of it.
        place: Where the entry before it ends, and so where this one has to start.
        end: Where the directory starts.
    """
    if entry.header_offset != place or place + _LOCAL.size > end:
        raise _second(path)
    signature, *_, named, extra = _LOCAL.unpack_from(content, place)
    data = place + _LOCAL.size + named + extra
    name = bytes(content[place + _LOCAL.size :][:named])
    after = data + entry.compress_size
    same = name in {entry.orig_filename.encode(code, "replace") for code in ("utf-8", "cp437")}
    if signature != b"PK\x03\x04" or not same or after > end:
        raise _second(path)
    if entry.flag_bits & _DESCRIBED and bytes(content[after : after + 4]) == _DESCRIPTOR:
        ends = [after + size for size in _DESCRIPTOR_SIZES]
        # Both sizes are in use; what follows, an entry or the directory, tells which it is.
        after = next(
            (place for place in ends if bytes(content[place : place + 2]) == b"PK"), ends[0]
        )
    return data, after


def _second(path: Path) -> ValueError:
    return ValueError(
        f"{path} is refused: the archive has bytes that belong to no entry, where a second one "
        "could hide"
    )
