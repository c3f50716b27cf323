"""WebDataset shards, whole and broken."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from invertune.data.layouts.shards import find_shards, list_shards
from invertune.data.listing import Files


def shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, **files: bytes) -> list[tuple[str, bytes]]:
    return [(f"{key}.{suffix}", data) for suffix, data in files.items()]


def facts(**told: object) -> Mapping[str, bytes]:
    return {"json": json.dumps(told).encode()}


def test_the_files_of_a_name_are_one_sample(tmp_path: Path) -> None:
    first = [*sample("dir/000", jpg=b"one", txt=b" a cat \n", **facts(caption="no", alt="two")),
             *sample("dir/001", json=b"{broken", png=b"four4", txt="caf\xe9".encode())]  # fmt: skip
    shard(tmp_path / "p-0000.tar", first)
    shard(tmp_path / "p-0001.tar", sample("000", webp=b"x", **facts(caption="of json", alt="y")))
    found = list_shards(str(tmp_path))
    assert list(found.ids) == ["p-0000.tar/dir/000", "p-0000.tar/dir/001", "p-0001.tar/000"]
    assert found.captions == [["a cat"], ["café"], ["of json"]]
    read = Files(tmp_path)
    assert [read(place) for place in found.places] == [b"one", b"four4", b"x"]
    assert list_shards(str(tmp_path), "alt").captions == [["two"], [], ["y"]]


def test_a_range_of_shards(tmp_path: Path) -> None:
    for i in range(3):
        shard(tmp_path / f"p-{i:04d}.tar", sample(f"{i}", jpg=b"x"))
    assert len(find_shards(str(tmp_path / "p-{0000..0002}.tar"))) == 3
    assert len(list_shards(str(tmp_path / "p-{0001..0002}.tar"))) == 2
    with pytest.raises(ValueError, match=r"1 of 4 shards are missing, first .*p-0003.tar"):
        find_shards(str(tmp_path / "p-{0000..0003}.tar"))


def test_labels_and_samples_without_a_picture(tmp_path: Path) -> None:
    members = [*sample("a", jpg=b"x", cls=b"3"), *sample("b", txt=b"lost", cls=b"1"),
               *sample("c", jpg=b"y", cls=b"0\n")]  # fmt: skip
    shard(tmp_path / "a.tar", members)
    found = list_shards(str(tmp_path / "a.tar"))
    assert found.labels == [3, 0]
    assert found.captions is None
    assert found.refused == {"a.tar/b": "no picture beside its other files"}


@pytest.mark.parametrize(
    ("cut", "usable", "why"),
    [
        (512 * 4 + 100, ["a"], "without the mark of its end"),  # in the head of the second picture
        (512 * 5 + 100, ["a"], "within b.jpg"),
        (512 * 8, ["a", "b"], "without the mark of its end"),
    ],
)
def test_a_shard_that_ends_early_is_used_as_far_as_it_goes(
    tmp_path: Path, cut: int, usable: list[str], why: str
) -> None:
    members = [*sample("a", jpg=b"x" * 100, txt=b"one"), *sample("b", jpg=b"y" * 300, txt=b"two")]
    path = shard(tmp_path / "s.tar", members)
    path.write_bytes(path.read_bytes()[:cut])
    found = list_shards(str(path))
    assert [name.removeprefix("s.tar/") for name in found.ids] == usable
    assert why in found.refused["s.tar"]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no .tar file"):
        find_shards(str(tmp_path))
    shard(tmp_path / "a.tar", sample("a", txt=b"x"))
    with pytest.raises(ValueError, match="holds no picture in 1 shards"):
        list_shards(str(tmp_path))
