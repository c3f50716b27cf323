"""The samples that were drawn of a part, kept as a file: nothing is listed twice."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from invertune.data.listing import Listing, Place

_REFUSED, _TOTAL = b"refused", b"total"
_SCHEMA = [
    ("id", pa.string()),
    ("file", pa.string()),
    ("start", pa.int64()),
    ("length", pa.int64()),
    ("captions", pa.list_(pa.string())),
    ("label", pa.int64()),
]


def save(listing: Listing, path: Path) -> None:
    """Write a listing as a parquet file, which is whole once it is there.

    Raises:
        OSError: If the disk refuses.
    """
    count = len(listing)
    columns = {
        "id": list(listing.ids),
        "file": [place.file for place in listing.places],
        "start": [place.start for place in listing.places],
        "length": [place.length for place in listing.places],
        "captions": [None] * count if listing.captions is None else list(listing.captions),
        "label": [None] * count if listing.labels is None else list(listing.labels),
    }
    told = {
        _REFUSED: json.dumps(listing.refused).encode(), _TOTAL: str(listing.total).encode(),
    }  # fmt: skip
    table = pa.table(columns, schema=pa.schema(_SCHEMA, metadata=told))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with told_where(partial):
        pq.write_table(table, partial)
    partial.replace(path)


@contextlib.contextmanager
def told_where(path: Path) -> Iterator[None]:
    """Say which file cannot be written, which pyarrow does not, and leave nothing of it.

    Raises:
        OSError: If the disk refuses.
    """
    try:
        yield
    except OSError as error:
        path.unlink(missing_ok=True)
        why = " ".join(f"{error}".split())
        raise OSError(
            f"{path} cannot be written, take another cache folder if the disk is full: {why:.200}"
        ) from error


def load(path: Path) -> Listing:
    """Return what `save` wrote."""
    table = pq.read_table(path)
    captions, labels = table["captions"], table["label"]
    files = table["file"].dictionary_encode().combine_chunks()
    names = files.dictionary.to_pylist() if len(table) else []  # a shard's name, once for all of it
    places = zip(files.indices.to_pylist() if len(table) else [], table["start"].to_pylist(),
                 table["length"].to_pylist(), strict=True)  # fmt: skip
    told = table.schema.metadata or {}
    return Listing(
        table["id"].to_pylist(),
        [Place(names[file], start, length) for file, start, length in places],
        None if captions.null_count else captions.to_pylist(),
        None if labels.null_count else labels.to_pylist(),
        json.loads(told.get(_REFUSED, b"{}")),
        int(told.get(_TOTAL, b"0")),
    )
