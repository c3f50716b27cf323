"""Tables of image paths: CSV or TSV, as the CleanCLIP family and open_clip lay out their pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from invertune.data.labels import to_labels
from invertune.data.listing import Listing, Place
from invertune.regular import require_regular

PATHS = ("image", "filepath", "path", "image_path", "file", "filename", "file_name", "images")
CAPTIONS = ("caption", "title", "text", "captions")
LABELS = ("label", "class", "cls", "target")
SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";"}
_LARGEST = 2**32  # bytes
_NO_TEXT = ("", "nan", "none", "null")

T = TypeVar("T")


@dataclass(frozen=True)
class Columns:
    """Which columns a table has; None for the first known name that its head holds.

    Attributes:
        image: Path of the picture, relative to the table's folder, or absolute.
        caption: What is said of it.
        label: Its class, as an index, a class name or a synset.
        separator: One of `SEPARATORS`; None for a tab where the first line has one, else a comma.
        encoding: Of the text.
    """

    image: str | None = None
    caption: str | None = None
    label: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"


def list_table(
    path: Path,
    columns: Columns,
    names: Sequence[str] = (),
    needs: Sequence[str] = (),
) -> Listing:
    """Return the samples of a table; rows with one path are one sample with several captions.

    Args:
        path: Of the table, whose first line names the columns.
        columns: What is read.
        names: Of the classes, for a column of labels; none where labels are not asked for.
        needs: Columns that have to be there: ``caption``, ``label``.

    Raises:
        ValueError: If it is no such table; names the first line that is wrong.
    """
    reader = _Rows(path, columns, needs)
    captions: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    refused: dict[str, str] = {}
    for line, row in reader:
        image = row[reader.image].strip()
        if not image:
            refused[f"line {line}"] = "no path of a picture"
            continue
        own = captions.setdefault(image, [])
        if reader.caption is not None and is_caption(row[reader.caption]):
            own.append(row[reader.caption].strip())
        if reader.label is not None and names:
            label = row[reader.label].strip()
            if labels.setdefault(image, label) != label:
                raise ValueError(f"{path}, line {line}: {image} had the label {labels[image]!r}")
    return Listing(
        list(captions),
        [Place(image) for image in captions],
        None if reader.caption is None else list(captions.values()),
        to_labels(list(labels.values()), names, f"{path}") if labels else None,
        refused,
    )


def is_caption(text: object) -> bool:
    """Return whether a field says anything: not empty, and not what stands for nothing."""
    return isinstance(text, str) and text.strip().casefold() not in _NO_TEXT


class _Rows:
    """The rows of a table, each with the number of the line that it ends on."""

    def __init__(self, path: Path, columns: Columns, needs: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        if require_regular(path) > _LARGEST:
            raise ValueError(f"{path} is larger than {_LARGEST >> 30} GiB")
        with self._open() as handle:
            head = self._guarded(handle.readline)
        if not head.strip():
            raise ValueError(f"{path} is empty; its first line names the columns")
        self.separator = self._separator(head)
        self.head = [name.strip() for name in next(csv.reader([head], delimiter=self.separator))]
        self.image = self._column("image", PATHS, needed=True) or 0
        self.caption = self._column("caption", CAPTIONS, "caption" in needs)
        self.label = self._column("label", LABELS, "label" in needs)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(2**20)
        with self._open() as handle:
            reader = csv.reader(handle, delimiter=self.separator, strict=True)
            rows = iter(reader)
            self._guarded(lambda: next(rows))
            while True:
                try:
                    row = self._guarded(lambda: next(rows, None))
                except csv.Error as error:
                    raise ValueError(f"{self.path}, line {reader.line_num}: {error}") from error
                if row is None:
                    return
                if not row:
                    continue
                if len(row) != len(self.head):
                    raise ValueError(
                        f"{self.path}, line {reader.line_num}: a row has {len(self.head)} fields "
                        f"({', '.join(self.head)}), got {len(row)}; a caption with a separator or "
                        "a line break in it stands in quotes"
                    )
                yield reader.line_num, row

    def _open(self) -> io.TextIOWrapper:
        # A mark of the byte order is none of the first column's name.
        encoding = "utf-8-sig" if self.columns.encoding == "utf-8" else self.columns.encoding
        try:
            return self.path.open(encoding=encoding, newline="")
        except LookupError as error:
            raise ValueError(f"encoding is one that Python knows, got {encoding!r}") from error

    def _guarded(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except UnicodeError as error:
            raise ValueError(
                f"{self.path} is not in {self.columns.encoding}: set another encoding, such as "
                f"latin-1 or utf-16 ({error})"
            ) from error

    def _separator(self, head: str) -> str:
        named = self.columns.separator
        if named is not None:
            return SEPARATORS[named]
        return "\t" if "\t" in head else ","

    def _column(self, what: str, known: Sequence[str], needed: bool = False) -> int | None:
        """Return the place of a column; None where there is none and nobody asks for it."""
        named = getattr(self.columns, what)
        wanted = known if named is None else (named,)
        found = next((name for name in wanted if name in self.head), None)
        if found is not None:
            return self.head.index(found)
        if named is None and not needed:
            return None
        others = ", ".join(name for name, sign in SEPARATORS.items() if sign != self.separator)
        raise ValueError(
            f"{self.path} has the columns {', '.join(self.head)}, but no {' or '.join(wanted)}: "
            f"name the {what} column, or another separator ({others})"
        )
