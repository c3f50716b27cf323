from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch

from invertune.clip import zips
from invertune.clip.zips import is_zip, read_zip

HIDDEN = r"is refused: the archive has bytes that belong to no entry"


def _archive(path: Path, name: str = "a") -> bytes:
    torch.save({name: torch.arange(5.0)}, path)
    return path.read_bytes()


def test_every_stored_entry_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    content = _archive(path)
    found = read_zip(path)
    with zipfile.ZipFile(path) as archive:
        expected = {name: archive.read(name) for name in archive.namelist()}
    assert {name: bytes(data) for name, data in found.stored.items()} == expected
    assert (found.root, found.packed) == ("w/", ())
    assert is_zip(content[:4])
    assert not is_zip(b"PK\x05\x06")


def test_a_packed_entry_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"one")
        archive.writestr("a/code.py", b"two" * 99, zipfile.ZIP_LZMA)
    found = read_zip(path)
    assert (set(found.stored), found.packed) == ({"a/data.pkl"}, ("a/code.py",))


def test_writing_to_an_entry_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    before = _archive(path)
    data = read_zip(path).stored["w/data/0"]
    data[:4] = b"\xff" * 4
    assert path.read_bytes() == before


def test_no_second_archive_can_hide(tmp_path: Path) -> None:
    path, other = tmp_path / "w.pt", tmp_path / "other.pt"
    first, second = _archive(path), _archive(other, "b")
    hidden = {
        "a second archive before": first + second,
        "a flatbuffer before": b"\x20\0\0\0PTMF" + bytes(24) + first,
        "bytes after": first + b"\0",
        "a comment after": first[:-2] + struct.pack("<H", len(second)) + second,
    }
    for what, content in hidden.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{HIDDEN}|is a damaged zip archive"):
            read_zip(path)
        assert what


def test_bytes_between_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"one")
        archive.fp.write(b"PK\x05\x06" + bytes(18))  # type: ignore[union-attr]
        archive.start_dir = archive.fp.tell()  # type: ignore[attr-defined, union-attr]
        archive.writestr("a/two", b"two")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("a/two") == b"two"
    with pytest.raises(ValueError, match=HIDDEN):
        read_zip(path)


def test_an_entry_is_called_as_the_directory_says(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    content = bytearray(_archive(path))
    content[content.index(b"w/data.pkl") + 2] = ord("x")  # in front of the data alone
    path.write_bytes(content)
    with pytest.raises(ValueError, match=HIDDEN):
        read_zip(path)


def test_an_entry_with_a_comment_or_one_that_is_not_counted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"one")
        archive.infolist()[0].comment = b"PK\x05\x06" + bytes(18)
    with pytest.raises(ValueError, match=HIDDEN):
        read_zip(path)
    content = bytearray(_archive(path))
    for place in (-14, -12, -98 + 24, -98 + 32):  # of the end, and of the end in 64 bits
        content[place] -= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{HIDDEN}|is a damaged zip"):
        read_zip(path)


def test_too_many_entries_are_said_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.pt"
    _archive(path)
    count = len(read_zip(path).stored)
    monkeypatch.setattr(zips, "MAX_ENTRIES", count - 1)
    with pytest.raises(ValueError, match=rf"has {count} entries; a checkpoint has at most"):
        read_zip(path)


def test_an_encrypted_entry_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"one")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.zip is refused: its entry 'a/data.pkl' is encrypted"):
        read_zip(path)


@pytest.mark.parametrize("keep", [4, 30, 100, -1, -22, -60])
def test_a_part_of_an_archive_is_no_archive(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    content = _archive(path)
    path.write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"w\.pt (is a damaged zip archive|is refused)"):
        read_zip(path)
