"""Pictures are looked at once; what cannot be used is counted, named and left out."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from invertune.data import prepared
from invertune.data.listing import Files, Listing, Place, ReadBytes
from invertune.data.pictures import Fitting
from invertune.data.prepared import (
    COMPLETE,
    SPECIAL,
    UNUSABLE,
    Prepared,
    Preparing,
    repeated,
    shared,
)

SIDE = 8


def png(shade: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    color: Any = shade if mode == "L" else (shade, 0, 0)
    Image.new(mode, (SIDE, SIDE), color).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ten pictures, of which number 3 is none."""
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(b"broken" if i == 3 else png(20 * i))
    return tmp_path


def listing(count: int = 10, **more: Any) -> Listing:
    names = [f"{i}.png" for i in range(count)]
    return Listing(names, [Place(name) for name in names], **more)


def prepare(folder: Path, **options: Any) -> Preparing:
    return Preparing(folder / "cache", Fitting(SIDE), **{"limit": 0.1, "workers": 2, **options})


@pytest.mark.parametrize("keep", [True, False])
def test_broken_pictures_are_left_out(folder: Path, keep: bool) -> None:
    captions = [[f"number {i}"] for i in range(10)]
    how = prepare(folder, keep=keep)
    found = how("data.pairs", listing(captions=captions), Files(folder))
    assert list(found.listing.ids) == [f"{i}.png" for i in range(10) if i != 3]
    assert (found.listing.captions or [])[3] == ["number 4"]
    assert found.images[:][:, 0, 0, 0].tolist() == [20 * i for i in range(10) if i != 3]
    assert found.images[torch.tensor([8, 0])][:, 0, 0, 0].tolist() == [180, 0]
    assert found.unusable == {"3.png": "no picture in one of JPEG, PNG, WEBP, GIF, BMP, TIFF"}
    assert found.counts["listed"] == 10
    assert found.counts["broken"] == 1
    assert (how.folder / "pixels.u8").exists() == keep


def test_what_was_read_of_the_mapped_file_leaves_memory_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident() -> int:
        """Return how much of the file is in this process' memory, in KiB."""
        parts = Path("/proc/self/smaps").read_text().split("pixels.u8\n")[1:]
        return sum(int(part.split("Rss:")[1].split()[0]) for part in parts)

    if not Path("/proc/self/smaps").is_file():
        pytest.skip("memory is told by Linux alone")
    for i in range(64):
        stream = io.BytesIO()
        Image.new("RGB", (128, 128), (i, 0, 0)).save(stream, "PNG")
        (tmp_path / f"{i}.png").write_bytes(stream.getvalue())
    images = Preparing(tmp_path / "cache", Fitting(128))(
        "clean", listing(64), Files(tmp_path)
    ).images
    monkeypatch.setattr(prepared, "_RESIDENT", 2**30)
    assert images[:][:, 0, 5, 5].tolist() == list(range(64))
    assert resident() >= 64 * 3 * 16  # all of it, 48 KiB a picture
    monkeypatch.setattr(prepared, "_RESIDENT", 2**18)
    assert images[:][:, 0, 5, 5].tolist() == list(range(64))
    assert resident() == 0


def test_too_many_stop_the_run(folder: Path) -> None:
    (folder / "5.png").unlink()
    with pytest.raises(ValueError, match="2 of 10") as caught:
        prepare(folder)("data.pairs", listing(), Files(folder))
    assert f"{caught.value}" == (
        "data.pairs: 2 of 10 samples (20.0%) cannot be used, more than broken_limit=0.1: "
        "3.png: no picture in one of JPEG, PNG, WEBP, GIF, BMP, TIFF; "
        f"5.png: No such file or directory: {folder}/5.png; all in {folder}/cache/{UNUSABLE}"
    )
    assert (folder / "cache" / UNUSABLE).read_text().count("\n") == 2
    assert len(prepare(folder, limit=0.2)("x", listing(), Files(folder)).listing) == 8
    refused = listing(refused={"line 7": "no path", "line 9": "no path"})
    with pytest.raises(ValueError, match=r"2 of 12 samples \(16.7%\) cannot be used"):
        prepare(folder)("data.pairs", refused, Files(folder))
    assert (folder / "cache" / UNUSABLE).read_text() == "line 7,no path\nline 9,no path\n"
    # What was refused is a share of all that there was, not of what was drawn.
    drawn = listing(2, refused={"line 7": "no path"}, total=100)
    assert len(prepare(folder / "own")("data.pairs", drawn, Files(folder)).listing) == 2


@pytest.mark.parametrize("keep", [True, False])
def test_what_could_not_be_read_is_looked_at_again(folder: Path, keep: bool) -> None:
    moved, how = folder / "5.elsewhere", prepare(folder, keep=keep)
    (folder / "5.png").rename(moved)
    with pytest.raises(ValueError, match="2 of 10"):
        how("data.pairs", listing(), Files(folder))
    moved.rename(folder / "5.png")
    found = how("data.pairs", listing(), Files(folder))
    assert list(found.unusable) == ["3.png"]
    assert found.images[:][:, 0, 0, 0].tolist() == [20 * i for i in range(10) if i != 3]
    assert found.counts["broken"] == 1
    assert (how.folder / UNUSABLE).read_text().startswith("3.png,")


def test_a_run_that_went_on_is_of_the_others(folder: Path) -> None:
    """What stages were made of stays the same until somebody looks again."""
    (folder / "5.png").rename(folder / "5.elsewhere")
    how = prepare(folder, limit=0.2)
    assert list(how("x", listing(), Files(folder)).unusable) == ["3.png", "5.png"]
    (folder / "5.elsewhere").rename(folder / "5.png")
    assert list(how("x", listing(), Files(folder)).unusable) == ["3.png", "5.png"]
    again = prepare(folder, limit=0.2, again=True)
    assert list(again("x", listing(), Files(folder)).unusable) == ["3.png"]
    assert list(how("x", listing(), Files(folder)).unusable) == ["3.png"]


def test_pixels_are_there_whichever_way_it_was_looked_at_before(folder: Path) -> None:
    expected = [20 * i for i in range(10) if i != 3]
    (folder / "5.png").rename(folder / "5.elsewhere")
    prepare(folder, limit=0.2)("x", listing(), Files(folder))
    (folder / "5.elsewhere").rename(folder / "5.png")
    prepare(folder, keep=False, again=True)("x", listing(), Files(folder))
    kept = prepare(folder)("x", listing(), Files(folder))
    assert kept.images[:][:, 0, 0, 0].tolist() == expected


def test_half_a_line_of_a_killed_process_hides_nothing(folder: Path) -> None:
    seen: list[str] = []
    how = prepare(folder, workers=1)
    with pytest.raises(KeyboardInterrupt):
        how("x", listing(), _counting(Files(folder), seen, stop=2))
    (how.folder / "broken.csv").write_text('0.png,"half a li')
    assert list(how("x", listing(), Files(folder)).unusable) == ["3.png"]


def _counting(read: ReadBytes, seen: list[str], stop: int = -1) -> ReadBytes:
    def counted(place: Place) -> bytes:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(place.file)
        return read(place)

    return counted


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_looked_at_is_not_looked_at_again(folder: Path, keep: bool) -> None:
    seen: list[str] = []
    how, read = prepare(folder, keep=keep, workers=1), Files(folder)
    with pytest.raises(KeyboardInterrupt):
        how("x", listing(), _counting(read, seen, stop=6))
    assert len(seen) == 6
    assert not (how.folder / COMPLETE).exists()
    found = how("x", listing(), _counting(read, seen))
    assert sorted(seen) == sorted({*seen})  # each picture once
    assert len(seen) == 10
    assert json.loads((how.folder / COMPLETE).read_text())["listed"] == 10
    again = how("x", listing(), _counting(read, seen))
    assert len(seen) == 10
    assert again.unusable == found.unusable
    assert np.array_equal(again.contents, found.contents)
    if keep:
        assert torch.equal(again.images[:], found.images[:])
        assert len(seen) == 10


def test_pixels_that_were_not_kept_are_read_again(folder: Path) -> None:
    seen: list[str] = []
    plain = prepare(folder, keep=False)("x", listing(), Files(folder))
    how = prepare(folder)
    kept = how("x", listing(), _counting(Files(folder), seen))
    assert len(seen) == 10
    assert torch.equal(kept.images[:], plain.images[:])
    for name in ("pixels.u8", "kinds.u16"):
        (how.folder / name).unlink()
        again = how("x", listing(), _counting(Files(folder), seen))
        assert torch.equal(again.images[:], plain.images[:])
        assert again.unusable == plain.unusable
        assert np.array_equal(again.contents, plain.contents)


def test_a_full_disk_is_one_line_and_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take: Callable[..., None] = os.posix_fallocate

    def full(handle: int, start: int, size: int) -> None:
        if size == 10 * 3 * SIDE * SIDE:
            raise OSError(errno.ENOSPC, "No space left on device")
        take(handle, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    how = prepare(folder)
    with pytest.raises(OSError, match=r"no room for 0.00192 MB, .* keep=false"):
        how("data.pairs", listing(), Files(folder))
    assert not (how.folder / "pixels.u8").exists()
    assert not (how.folder / UNUSABLE).exists()
    monkeypatch.undo()
    assert len(how("data.pairs", listing(), Files(folder)).listing) == 9


def test_a_picture_that_goes_away_is_said(folder: Path) -> None:
    found = prepare(folder, keep=False)("x", listing(), Files(folder))
    (folder / "0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png could be read before, and cannot now"):
        found.images[torch.tensor([1, 0])]


def _of(ids: Sequence[str], contents: Sequence[int]) -> Prepared:
    listed = Listing(ids, [Place(name) for name in ids])
    pictures = torch.zeros(len(ids), 3, 1, 1, dtype=torch.uint8)
    from invertune.data.images import Images

    images = Images(pictures, len(ids))
    return Prepared("x", listed, images, np.array(contents, dtype=np.uint64), {}, {})


def test_parts_share_by_name_or_by_pixels() -> None:
    first, second = _of(["a", "b", "c"], [1, 2, 2]), _of(["d", "a", "e"], [2, 9, 8])
    assert [j for _, j in shared(first, second)] == [0, 1]
    assert repeated(first.contents) == 1
    assert list(shared(first, _of(["x"], [7]))) == []


def test_kinds_are_counted(folder: Path) -> None:
    (folder / "0.png").write_bytes(png(7, "L"))
    found = prepare(folder)("x", listing(3), Files(folder))
    assert found.counts == {"listed": 3, "broken": 0, "grey": 1, "cmyk": 0, "turned": 0,
                            "animated": 0, "transparent": 0, "small": 3, "huge": 0}  # fmt: skip
    told = (folder / "cache" / SPECIAL).read_text().splitlines()
    assert told == ["0.png,grey small", "1.png,small", "2.png,small"]
