"""A listing comes back from its file as it went there."""

from __future__ import annotations

from pathlib import Path

import pytest

from invertune.data.drawn import load, save
from invertune.data.listing import Listing, Place


@pytest.mark.parametrize(
    "listing",
    [
        Listing(["a", "b", "c"], [Place("x.tar", 512, 9), Place("x.tar", 2048, 7), Place("é.jpg")],
                [["one", "two, three"], [], ["line\nbreak"]], None, {"x.tar/d": "no caption"}),
        Listing(["a"], [Place("a.png")], None, [7]),
    ],
)  # fmt: skip
def test_there_and_back(listing: Listing, tmp_path: Path) -> None:
    save(listing, tmp_path / "list.parquet")
    assert load(tmp_path / "list.parquet") == listing
    assert [path.name for path in tmp_path.iterdir()] == ["list.parquet"]


def test_a_full_disk_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("Error writing bytes to file. Detail: [errno 28] No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OSError, match=r"list.partial cannot be written, .*\[errno 28\]"):
        save(Listing(["a"], [Place("a.png")]), tmp_path / "list.parquet")
    assert list(tmp_path.iterdir()) == []
