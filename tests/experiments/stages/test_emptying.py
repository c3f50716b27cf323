from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.stages.emptying import bring_back, clear, remove, set_aside
from experiments.stages.keys import StageKey
from experiments.stages.manifest import MANIFEST
from experiments.stages.store import CHECKPOINT, StageStore

KEY = StageKey("count", {}, {}, 0)


def _write_ten(folder: Path) -> None:
    (folder / "number.json").write_text("10")
    (folder / "deep").mkdir()
    (folder / "deep" / "other.bin").write_bytes(b"\0" * 10)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    return folder


def _precious(outside: Path) -> bool:
    return (outside / "thesis.tex").read_text() == "precious"


def test_an_attempt_keeps_its_checkpoint_alone(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    partial.mkdir()
    _write_ten(partial)
    (partial / CHECKPOINT).write_text("half")
    clear(partial, CHECKPOINT)
    assert [path.name for path in partial.iterdir()] == [CHECKPOINT]
    (partial / CHECKPOINT).unlink()
    clear(partial, CHECKPOINT)
    assert not partial.exists()
    clear(partial, CHECKPOINT)  # of which there is none


def test_links_in_an_attempt_are_not_followed(tmp_path: Path, outside: Path) -> None:
    partial = tmp_path / "partial"
    partial.mkdir()
    (partial / "folder").symlink_to(outside)
    (partial / CHECKPOINT).symlink_to(outside / "thesis.tex")
    (partial / "deep").mkdir()
    (partial / "deep" / "link").symlink_to(outside)
    clear(partial, CHECKPOINT)
    assert not partial.exists()
    assert _precious(outside)


def test_an_attempt_that_is_a_link_is_not_followed(tmp_path: Path, outside: Path) -> None:
    partial = tmp_path / "partial"
    partial.symlink_to(outside)
    clear(partial, CHECKPOINT)
    assert not os.path.lexists(partial)
    assert _precious(outside)
    (tmp_path / "link").symlink_to(outside)
    remove(tmp_path / "link")
    assert _precious(outside)


def test_a_stage_that_is_a_link_is_made_anew_and_its_end_stays(
    tmp_path: Path, outside: Path
) -> None:
    store = StageStore(tmp_path)
    store.root.mkdir()
    (store.root / KEY.folder_name).symlink_to(outside)
    made = store.obtain(KEY, _write_ten)
    assert made.folder.is_dir()
    assert not made.folder.is_symlink()
    assert _precious(outside)
    assert [path.name for path in outside.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damaged", ["number.json", MANIFEST])
def test_foreign_files_survive_in_a_stage_that_is_made_anew(
    tmp_path: Path, outside: Path, damaged: str
) -> None:
    store = StageStore(tmp_path)
    folder = store.obtain(KEY, _write_ten).folder
    (folder / "notes.txt").write_text("mine")
    (folder / "deep" / "more.txt").write_text("mine too")
    (folder / "link").symlink_to(outside)
    (folder / damaged).write_text("damaged")
    again = store.obtain(KEY, _write_ten)
    assert again.json("number.json") == 10
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "deep" / "more.txt").read_text() == "mine too"
    assert (folder / "link").is_symlink()
    assert _precious(outside)
    assert [path.name for path in store.root.iterdir()] == [KEY.folder_name]
    assert store.find(KEY) is not None


def test_what_a_killed_process_set_aside_comes_back(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    folder = store.obtain(KEY, _write_ten).folder
    (folder / "notes.txt").write_text("mine")
    set_aside(folder)  # and here it is killed
    assert not folder.exists()
    assert store.obtain(KEY, _write_ten).file("notes.txt").read_text() == "mine"
    assert [path.name for path in store.root.iterdir()] == [KEY.folder_name]


def test_a_file_whose_place_is_taken_stays_where_it_was_set_aside(tmp_path: Path) -> None:
    folder, old = tmp_path / "a", tmp_path / ".trash-a-1"
    for place in (folder, old):
        place.mkdir()
        (place / "notes.txt").write_text(place.name)
    bring_back(folder)
    assert (folder / "notes.txt").read_text() == "a"
    assert (old / "notes.txt").read_text() == ".trash-a-1"
