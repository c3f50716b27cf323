"""Data sets of the library ``datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from invertune.data.layouts.hugging_face import (
    Origin,
    list_dataset,
    parquet_files,
    read_dataset,
    spool,
)
from invertune.data.layouts.tables import Columns


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def made(names: list[str] | None = None, **columns: Any) -> Any:
    pictures = [{"bytes": b"picture %d" % i, "path": None} for i in range(4)]
    label = datasets.Value("int64") if names is None else datasets.ClassLabel(names=names)
    features = {"image": datasets.Image(), "caption": datasets.Value("string"), "label": label}
    given = {"image": pictures, "caption": ["a", "b", "", "d"], "label": [2, 0, 1, 2], **columns}
    return datasets.Dataset.from_dict(given, features=datasets.Features(features))


def test_a_saved_folder_and_parquet_files_are_the_same(tmp_path: Path) -> None:
    saved, files = tmp_path / "saved", tmp_path / "files"
    made().save_to_disk(str(saved))
    files.mkdir()
    made().to_parquet(str(files / "part.parquet"))
    for path in (saved, files, files / "part.parquet"):
        origin = Origin(str(path))
        found = list_dataset(origin, Columns(), ("x", "y", "z"))
        assert found.captions == [["a"], ["b"], [], ["d"]]
        assert found.labels == [2, 0, 1, 2]
        read = read_dataset(origin, Columns())
        assert [read(place) for place in found.places] == [b"picture %d" % i for i in range(4)]


def test_names_of_labels_lead_to_our_classes(tmp_path: Path) -> None:
    made(["z", "x", "y"]).save_to_disk(str(tmp_path / "saved"))
    origin = Origin(str(tmp_path / "saved"))
    assert list_dataset(origin, Columns(), ("x", "y", "z")).labels == [1, 2, 0, 1]
    # Other words for as many classes: their order counts.
    assert list_dataset(origin, Columns(), ("u", "v", "w")).labels == [2, 0, 1, 2]
    with pytest.raises(ValueError, match="has 3 classes, the class list 2"):
        list_dataset(origin, Columns(), ("u", "v"))


def test_splits_and_columns_are_named(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": made(), "test": made().select([1])})
    both.save_to_disk(str(tmp_path / "both"))
    path = str(tmp_path / "both")
    assert len(list_dataset(Origin(path, "test"), Columns())) == 1
    with pytest.raises(ValueError, match="split is one of train, test, got none"):
        list_dataset(Origin(path), Columns())
    with pytest.raises(ValueError, match="but no alt: name the caption column"):
        list_dataset(Origin(path, "test"), Columns(caption="alt"))
    with pytest.raises(ValueError, match=r"holds no \.parquet file"):
        parquet_files(tmp_path / "cache")


def test_parquet_files_are_of_the_splits_that_they_are_named_after(tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "data").mkdir(parents=True)
    made().to_parquet(str(files / "data" / "train-00000-of-00001.parquet"))
    made().select([1, 2]).to_parquet(str(files / "data" / "validation-00000-of-00002.parquet"))
    made().select([3]).to_parquet(str(files / "data" / "validation-00001-of-00002.parquet"))
    assert len(list_dataset(Origin(str(files), "validation"), Columns())) == 3
    assert len(list_dataset(Origin(str(files), "train"), Columns())) == 4
    with pytest.raises(ValueError, match="split is one of train, validation, got none"):
        list_dataset(Origin(str(files)), Columns())
    own = tmp_path / "dev"  # whose name says nothing of what lies in it
    own.mkdir()
    made().to_parquet(str(own / "part.parquet"))
    assert len(list_dataset(Origin(str(own), "train"), Columns())) == 4
    made().to_parquet(str(files / "more.parquet"))  # of no split: all of them are one
    assert len(list_dataset(Origin(str(files)), Columns())) == 11


def test_a_split_of_the_hub_is_all_that_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def load(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        return made()

    monkeypatch.setattr(datasets, "load_dataset", load)
    Origin("hf://owner/name", "validation").open(streaming=True)
    assert asked == {
        "name": "owner/name", "revision": None, "split": "validation", "streaming": True,
    }  # fmt: skip


def test_what_is_nowhere_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(ValueError, match="cannot load it: no network at all"):
        Origin("hf://owner/name").open()


def test_a_stream_is_kept_as_a_file(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    made().to_parquet(str(files / "part.parquet"))
    path = tmp_path / "kept" / "stream.parquet"
    spool(Origin(str(files)), Columns(), 3, 0, path)
    origin = Origin(str(path))
    found, read = list_dataset(origin, Columns()), read_dataset(origin, Columns())
    assert len(found) == 3
    texts = {"picture 0": "a", "picture 1": "b", "picture 2": "", "picture 3": "d"}
    for place, told in zip(found.places, found.captions or (), strict=True):
        wanted = texts[read(place).decode()]
        assert list(told) == ([wanted] if wanted else [])
