"""Data sets of the library ``datasets``: saved folders, parquet files, or names on its hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invertune.data.drawn import told_where
from invertune.data.labels import to_labels
from invertune.data.layouts.tables import CAPTIONS, LABELS, Columns, is_caption
from invertune.data.listing import Listing, Place, ReadBytes
from invertune.progress import progress

IMAGES = ("image", "img", "jpg", "png", "images", "picture")
_MORE_CAPTIONS = (*CAPTIONS, "txt", "sentences", "sentences_raw", "raw")
_SHUFFLED = 10_000  # pictures that a stream is shuffled among
_GROUP = 256  # rows that are written at once
_SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Origin:
    """Which data set it is.

    Attributes:
        path: A folder of `datasets.Dataset.save_to_disk`, a parquet file, a folder of such, or a
            name on the hub, such as ``pixparse/cc3m-wds``, perhaps after ``hf://``.
        split: Of it; None for the only one.
        revision: On the hub; None for the newest.
    """

    path: str
    split: str | None = None
    revision: str | None = None

    def open(self, streaming: bool = False) -> Any:
        """Return the data set, its pictures not decoded.

        Raises:
            ValueError: If there is none, or several splits and none is named.
        """
        import datasets

        folder, split = Path(self.path), self.split
        try:
            if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
                found: Any = datasets.load_from_disk(str(folder))
            elif folder.exists():
                # By the files and never by the folder: nothing in it is taken for a script.
                files = by_split(parquet_files(folder), folder)
                found = datasets.load_dataset("parquet", data_files=files, streaming=streaming)
            else:
                name = self.path.removeprefix("hf://").removeprefix("datasets/")
                # A split that is named is all that is fetched.
                found = datasets.load_dataset(
                    name, revision=self.revision, split=split, streaming=streaming
                )
        except Exception as error:  # its own errors, those of the hub and of the network
            why = " ".join(f"{error}".split())
            raise ValueError(
                f"{self.path} is no folder and no file here, and the library datasets cannot load "
                f"it: {why:.300}"
            ) from error
        if isinstance(found, Mapping):
            split = next(iter(found)) if split is None and len(found) == 1 else split
            if split not in found:
                raise ValueError(
                    f"{self.path}: split is one of {', '.join(found)}, got {split or 'none'}"
                )
            found = found[split]
        return found


def by_split(files: Sequence[Path], root: Path) -> dict[str, list[str]]:
    """Return parquet files by their splits, which their names or their folders' begin with.

    As the hub has them: ``train-00000-of-00002.parquet``, ``validation/0000.parquet``. Files of
    which one says nothing are one split, ``train``.

    Args:
        files: The files.
        root: The folder that they lie in; its own name says nothing.
    """
    splits = [_split_of(one, root) for one in files]
    if None in splits:
        return {"train": [str(one) for one in files]}
    found: dict[str, list[str]] = {}
    for split, one in zip(splits, files, strict=True):
        found.setdefault(str(split), []).append(str(one))
    return found


def _split_of(path: Path, root: Path) -> str | None:
    inner = path.parent.name if root not in (path.parent, path) else ""
    for name in (path.stem, inner):
        word = _WORD.match(name.lower())
        if word and word[0] in _SPLITS:
            return _SPLITS[word[0]]
    return None


def parquet_files(path: Path) -> list[Path]:
    """Return a parquet file, or those below a folder.

    Raises:
        ValueError: If there is none.
    """
    found = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not found:
        raise ValueError(f"{path} holds no .parquet file")
    return found


def list_dataset(
    origin: Origin, columns: Columns, names: Sequence[str] = (), needs: Sequence[str] = ()
) -> Listing:
    """Return the samples of a data set, in its order.

    Args:
        origin: Says which.
        columns: What is read.
        names: Of the classes; none where labels are not asked for.
        needs: Columns that have to be there: ``caption``, ``label``.

    Raises:
        ValueError: If there is no such data set or column.
    """
    found = origin.open()
    _, caption, label = _columns(origin.path, found.column_names, columns, needs)
    ids = [f"{row:09d}" for row in range(len(found))]
    captions = None if caption is None else [_texts(told) for told in found[caption]]
    labels = None
    if label is not None and names:
        labels = _labels(found, label, names, origin.path)

    places = [Place("", row) for row in range(len(found))]
    return Listing(ids, places, captions, labels)


def read_dataset(origin: Origin, columns: Columns) -> ReadBytes:
    """Return what reads the bytes of the picture in a row.

    Raises:
        ValueError: If there is no such data set or column.
    """
    import datasets

    found = origin.open()
    image = _columns(origin.path, found.column_names, columns, ())[0]
    pictures = found.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    return lambda place: _bytes(pictures[place.start][image])


def spool(origin: Origin, columns: Columns, count: int, seed: int, path: Path) -> None:
    """Write the first pictures of a shuffled stream as a parquet file, which is read from then on.

    Args:
        origin: Says which data set.
        columns: What is kept.
        count: Number of pictures.
        seed: Of the shuffling, in a buffer of 10,000 pictures.
        path: Of the file, which is whole once it is there.

    Raises:
        ValueError: If there is no such data set or column.
        OSError: If the disk refuses.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = origin.open(streaming=True)
    image, caption, label = _columns(origin.path, found.column_names or _peek(found), columns, ())
    found = found.cast_column(image, datasets.Image(decode=False))
    found = found.shuffle(seed=seed, buffer_size=_SHUFFLED).take(count)
    kept = [name for name in (image, caption, label) if name is not None]
    partial, writer = path.with_suffix(".partial"), None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for rows in _grouped(progress(found, f"stream {origin.path}", total=count)):
            table = pa.table({name: [_plain(row[name]) for row in rows] for name in kept})
            with told_where(partial):
                writer = writer or pq.ParquetWriter(partial, table.schema)
                writer.write_table(table)
    finally:
        if writer is not None:
            with told_where(partial):
                writer.close()
    if writer is None:
        raise ValueError(f"{origin.path} gives no picture")
    partial.replace(path)


def _grouped(rows: Any) -> Iterator[list[Any]]:
    group = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group


def _peek(found: Any) -> list[str]:
    return list(next(iter(found)))


def _plain(value: Any) -> Any:
    """Return a field as a parquet file holds it: a picture as its bytes."""
    return {"bytes": _bytes(value), "path": None} if isinstance(value, Mapping) else value


def _bytes(picture: Mapping[str, Any] | None) -> bytes:
    if picture is None:
        raise ValueError("no picture in its row")
    data = picture.get("bytes")
    return data if data is not None else Path(picture["path"]).read_bytes()


def _texts(told: Any) -> list[str]:
    texts = told if isinstance(told, list | tuple) else [told]
    return [text.strip() for text in texts if is_caption(text)]


def _columns(
    path: str, there: Sequence[str], columns: Columns, needs: Sequence[str]
) -> tuple[str, str | None, str | None]:
    """Return the names of the columns of the picture, the caption and the label."""
    found = []
    known = {"image": IMAGES, "caption": _MORE_CAPTIONS, "label": LABELS}
    for what, names in known.items():
        named = getattr(columns, what)
        wanted = names if named is None else (named,)
        own = next((name for name in wanted if name in there), None)
        if own is None and (named is not None or what == "image" or what in needs):
            raise ValueError(
                f"{path} has the columns {', '.join(there)}, but no {' or '.join(wanted)}: name "
                f"the {what} column"
            )
        found.append(own)
    return str(found[0]), found[1], found[2]


def _labels(found: Any, column: str, names: Sequence[str], path: str) -> list[int]:
    """Return the labels; by the names that the data set has for them, where these are ours."""
    own = getattr(found.features[column], "names", None)
    values = list(found[column])
    if own and {*own} <= {*names}:
        return to_labels([own[value] for value in values], names, path)
    if own and len(own) != len(names):
        raise ValueError(f"{path} has {len(own)} classes, the class list {len(names)}")
    return to_labels([str(value) for value in values], names, path)
