"""Parts in files, in every layout, are the data set that was written there."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from invertune.data.bundle import DataBundle
from invertune.data.classes import Classes
from invertune.data.composed import ComposedData
from invertune.data.export import Exporter
from invertune.data.part import Part

Make = Callable[..., ComposedData]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def world(make_data: Callable[..., DataBundle]) -> DataBundle:
    return make_data(sizes={"pairs": 60, "clean": 20, "zero_shot": 30, "retrieval": 12})


@pytest.fixture(scope="module")
def written(world: DataBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the paths of the world's parts, in each layout."""
    to = Exporter(world, tmp_path_factory.mktemp("world"), shard=25)
    flat, labels = to.zero_shot_labeled()
    told, pictures = to.retrieval_annotations()
    split, _ = to.retrieval_split()
    return {
        "classes": Classes(path=str(to.classes()), templates=list(world.templates)),
        "clean": Part(str(to.clean().parent)),
        "pairs": {"shards": Part(str(to.pairs_shards())), "table": Part(str(to.pairs_table())),
                  "datasets": Part(str(to.pairs_dataset()))},
        "zero_shot": {"shards": Part(str(to.zero_shot_folders())),
                      "table": Part(str(flat), labels_path=str(labels)),
                      "datasets": Part(str(to.zero_shot_parquet()))},
        "retrieval": {"shards": Part(str(told), images_path=str(pictures)),
                      "table": Part(str(split), images_path=str(pictures)),
                      "datasets": Part(str(told), images_path=str(pictures))},
    }  # fmt: skip


@pytest.fixture
def make(written: dict[str, Any], world: DataBundle, tmp_path: Path) -> Make:
    def of(layout: str = "table", **changes: Any) -> ComposedData:
        parts = {role: part[layout] if isinstance(part, dict) else part
                 for role, part in written.items()}  # fmt: skip
        given = {"name": "own", "image_size": world.image_size, "cache": str(tmp_path / "cache"),
                 "workers": 1, **parts, **changes}  # fmt: skip
        return ComposedData(**given)

    return of


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("layout", ["shards", "table", "datasets"])
def test_every_layout_is_the_world_that_was_written(
    make: Make, world: DataBundle, layout: str, keep: bool
) -> None:
    data = make(layout, keep=keep).load()
    assert (data.class_names, data.prompts) == (world.class_names, world.prompts)
    assert list(data.pairs.captions) == list(world.pairs.captions)
    assert torch.equal(data.pairs.images[:], world.pairs.images[:])
    assert torch.equal(data.clean.images[:], world.clean.images[:])
    assert list(map(list, data.retrieval.captions)) == list(map(list, world.retrieval.captions))
    assert torch.equal(data.retrieval.images[:], world.retrieval.images[:])
    order = torch.arange(30)
    if layout == "shards":  # folders are read by their names
        names = [world.class_names[label] for label in world.zero_shot.labels.tolist()]
        order = torch.tensor(sorted(range(30), key=lambda i: (names[i], i)))
    assert torch.equal(data.zero_shot.labels, world.zero_shot.labels[order])
    assert torch.equal(data.zero_shot.images[:], world.zero_shot.images[order])
    data.check_disjoint()


def test_a_subset_is_drawn_by_the_seed_and_another_part_apart_from_it(make: Make) -> None:
    shards = make("shards").pairs
    half = dataclasses.replace(shards, count=30)
    rest = dataclasses.replace(shards, count=25, apart_from="pairs")
    data = make(pairs=half, clean=rest).load()
    ids, others = list(data.pairs.ids), list(data.labeled_clean.ids)
    assert (len(ids), len(others)) == (30, 25)
    in_order = [name.partition("/")[2] for name in ids]  # without the mark of the shard
    assert in_order == sorted(in_order)
    assert not {*ids} & {*others}
    data.check_disjoint()
    assert ids == list(make(pairs=half).load().pairs.ids)
    assert ids != list(make(pairs=half, seed=1).load().pairs.ids)
    assert data.clean_captions is not None  # of the same shards
    assert len(data.captioned_clean.pairs) == 25
    # A shard's samples have one name, whichever of its neighbors are read with it.
    one = str(min(Path(shards.path).glob("*.tar")))
    first = dataclasses.replace(shards, path=one, apart_from="pairs")
    apart = make(pairs=half, clean=first).load()
    assert 0 < len(apart.labeled_clean.ids) < 25
    assert not {*ids} & {*apart.labeled_clean.ids}
    more = dataclasses.replace(rest, count=31)
    with pytest.raises(ValueError, match=r"data.clean: .* has 30 usable samples, 31 are wanted"):
        make(pairs=half, clean=more).load().ids("clean")


def test_splits_and_shards_of_one_name_are_not_one(
    make: Make, written: dict[str, Any], tmp_path: Path
) -> None:
    whole = datasets.load_from_disk(written["pairs"]["datasets"].path)
    splits = {"train": whole.select(range(30)), "test": whole.select(range(30, 60))}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "both"))
    parts = [Part(str(tmp_path / "both"), split=split) for split in splits]
    data = make(pairs=parts[0], clean=parts[1]).load()
    data.check_disjoint()
    assert not {*data.pairs.ids} & {*data.labeled_clean.ids}
    shards = sorted(Path(written["pairs"]["shards"].path).glob("*.tar"))[:2]
    for place, shard in zip(("one", "two"), shards, strict=True):  # of one name and size
        (tmp_path / place).mkdir()
        shutil.copy(shard, tmp_path / place / "00000.tar")
    data = make(pairs=Part(str(tmp_path / "one")), clean=Part(str(tmp_path / "two"))).load()
    data.check_disjoint()


def test_captions_are_known_before_anything_is_planted(make: Make) -> None:
    data = make().load()
    assert data.clean_captions is None
    with pytest.raises(ValueError, match="the clean images of own have no captions"):
        _ = data.captioned_clean


def test_overlap_is_refused_or_dropped(make: Make, written: dict[str, Any], tmp_path: Path) -> None:
    """The same picture under another name, in another folder, is the same picture."""
    mixed = tmp_path / "mixed"
    shutil.copytree(written["clean"].path, mixed)
    test_image = sorted(Path(written["zero_shot"]["table"].path).glob("*.png"))[4]
    shutil.copy(test_image, mixed / "zzz.png")
    data = make(clean=Part(str(mixed))).load()
    with pytest.raises(ValueError, match=r"1 pictures of clean are in zero_shot too, first .*zzz"):
        data.check_disjoint()
    dropped = make(clean=Part(str(mixed)), overlap="drop").load()
    dropped.check_disjoint()
    assert len(dropped.clean) == 20
    same = make(clean=make("shards").pairs, pairs=make("shards").pairs).load()
    with pytest.raises(ValueError, match="is in pairs and clean"):
        same.check_disjoint()


def test_all_missing_files_are_named_at_once(make: Make) -> None:
    lost = Part("nowhere", hint="a folder of pictures")
    with pytest.raises(ValueError, match="nowhere") as caught:
        make(pairs=lost, retrieval=Part("lost.json")).load()
    assert f"{caught.value}" == (
        "data.pairs: there is no nowhere; expected: a folder of pictures; "
        "data.retrieval: there is no lost.json"
    )


def test_a_part_without_what_it_needs(make: Make, written: dict[str, Any]) -> None:
    folder = written["clean"]
    with pytest.raises(ValueError, match=r"data.pairs: .* \(layout folder\) has no captions"):
        _ = make(pairs=folder).load().pairs
    with pytest.raises(ValueError, match=r"data.zero_shot: .*labeled pictures lie in a folder"):
        _ = make(zero_shot=folder).load().zero_shot
    with pytest.raises(ValueError, match=r"data.clean: there is no folder lost \(images_path\)"):
        make(clean=dataclasses.replace(folder, images_path="lost")).load()
    with pytest.raises(ValueError, match=r"data.clean: there is no file lost \(labels_path\)"):
        make(clean=dataclasses.replace(folder, labels_path="lost")).load()
    with pytest.raises(ValueError, match=r"data.pairs: there is no lost-\{0\.\.2\}\.tar"):
        make(pairs=Part("lost-{0..2}.tar")).load()
    with pytest.raises(ValueError, match=r"layout=table reads a file, but .* is a folder"):
        make(pairs=dataclasses.replace(folder, layout="table")).load()
    with pytest.raises(ValueError, match=r"layout=folder reads a folder, but .* is a file"):
        make(clean=dataclasses.replace(written["pairs"]["table"], layout="folder")).load()


def test_empty_captions_are_refused_up_to_the_limit(make: Make, tmp_path: Path) -> None:
    table = Path(make().pairs.path)
    lines = table.read_text().splitlines(keepends=True)
    lines[3] = f"{lines[3].split(',')[0]},NaN\n"
    own = table.parent / "own.csv"
    own.write_text("".join(lines))
    data = make(pairs=Part(str(own))).load()
    assert len(data.pairs) == 59
    with pytest.raises(ValueError, match=r"1 of 60 samples \(1.7%\) cannot be used.*no caption"):
        _ = make(pairs=Part(str(own)), broken_limit=0.01).load().pairs


def test_a_class_without_a_sample_is_said(
    make: Make, written: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    classes = written["classes"]
    names = [line.split("\t")[0] for line in Path(classes.path).read_text().splitlines()]
    more = dataclasses.replace(classes, path=None, names=[*names, "whale"])
    assert len(make(classes=more).load().zero_shot) == 30
    assert "1 of 7 classes have no sample in zero_shot, first whale" in caplog.text


def test_wrong_fields(make: Make) -> None:
    part = Part("x", apart_from="clean")
    with pytest.raises(ValueError, match=r"apart_from is one of clean, zero_shot, ret"):
        make(pairs=part, clean=Part("x", apart_from="pairs"))
    with pytest.raises(ValueError, match="overlap is one of refuse, drop"):
        make(overlap="ignore")
    with pytest.raises(ValueError, match="streaming=true takes a count"):
        Part("hf://a/b", streaming=True)
    with pytest.raises(ValueError, match=r"a name on the hub is hf://OWNER/NAME, got 'hf://a/b/c'"):
        Part("hf://a/b/c").find_layout()
