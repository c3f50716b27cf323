"""Folders of pictures: by classes, and with a file of labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invertune.contents import fingerprint
from invertune.data.layouts.folders import list_folder, list_labeled

NAMES = ("cat", "ice cream", "dog")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_all_pictures_below_are_listed_and_sorted(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.PNG", "a.jpg", "b/1.jpeg", "notes.txt", ".hidden.jpg", ".git/c.jpg")
    found = list_folder(tmp_path)
    assert list(found.ids) == ["a.jpg", "b/1.jpeg", "b/2.PNG"]
    assert found.labels is None


def test_folders_name_classes(tmp_path: Path) -> None:
    fill(tmp_path, "dog/1.jpg", "cat/deep/2.jpg", "ice cream/3.jpg")
    assert list_folder(tmp_path, NAMES).labels == [0, 2, 1]  # sorted: cat, dog, ice cream
    fill(tmp_path, "bird/1.jpg")
    with pytest.raises(ValueError, match=r"folders in .* got 'bird'"):
        list_folder(tmp_path, NAMES)


def test_links_to_folders_are_followed_but_not_back(tmp_path: Path) -> None:
    fill(tmp_path / "all", "n1/1.jpg", "n2/2.jpg")
    own = fill(tmp_path / "own", "cat/0.jpg")
    (own / "dog").symlink_to(tmp_path / "all" / "n2")
    (own / "cat" / "around").symlink_to(own)
    assert list(list_folder(own, NAMES).ids) == ["cat/0.jpg", "dog/2.jpg"]
    assert fingerprint(str(own)) != fingerprint(str(own / "cat"))
    both = fill(tmp_path / "both", "a/1.jpg", "b/2.jpg")
    (both / "a" / "to").symlink_to(both / "b")
    (both / "b" / "to").symlink_to(both / "a")
    (both / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert list(list_folder(both).ids) == [
        "a/1.jpg", "a/to/2.jpg", "b/2.jpg", "b/to/1.jpg", "gone.jpg",
    ]  # fmt: skip
    assert fingerprint(str(both)) == fingerprint(str(both))


def test_a_name_that_is_no_text_is_said(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match=r"a name is text in UTF-8, got b'caf\\xe9.jpg'"):
        list_folder(tmp_path)


def test_a_picture_without_a_line_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "flat", "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "labels.txt").write_text("2.jpg 0\n1.jpg 2\n")
    found = list_labeled(tmp_path / "flat", tmp_path / "labels.txt", NAMES)
    assert list(found.ids) == ["2.jpg", "1.jpg"]
    assert "no line for 1 pictures" in caplog.text
    assert "first 3.jpg" in caplog.text


def test_loose_pictures_have_no_label(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.jpg", "2.jpg")
    with pytest.raises(ValueError, match=r"labels_path\); 2.jpg lies in none"):
        list_folder(tmp_path, NAMES)


def test_synsets_are_imagenets(tmp_path: Path) -> None:
    fill(tmp_path, "n01443537/a.JPEG", "n01440764/b.JPEG", "n15075141/c.JPEG")
    names = [f"class {i}" for i in range(1000)]
    assert list_folder(tmp_path, names).labels == [0, 1, 999]
    with pytest.raises(ValueError, match=r"where the classes are ImageNet's 1000, got n0144"):
        list_folder(tmp_path, NAMES)


@pytest.mark.parametrize("text", ["1.jpg 2\n2.jpg 0\n", "2.jpg,cat\n1.jpg,dog\n", "2\n0\n"])
def test_a_file_of_labels(tmp_path: Path, text: str) -> None:
    fill(tmp_path / "val", "2.jpg", "1.jpg")
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    found = list_labeled(tmp_path / "val", labels, NAMES)
    assert dict(zip(found.ids, found.labels or (), strict=True)) == {"1.jpg": 2, "2.jpg": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2\n0\n1\n", r"3 labels for 2 pictures"),
        ("1.jpg 2\n2.jpg\n", r"line 2: a name and a label, got '2.jpg'"),
        ("1.jpg 2\n1.jpg 1\n", r"got 1.jpg twice"),
        ("1.jpg 1\n2.jpg 3\n", r"from 0 to 2, in the order of the class list, got 3"),
        ("1.jpg cat\n2.jpg bird\n", r"got 'bird'"),
    ],
)
def test_wrong_labels(tmp_path: Path, text: str, said: str) -> None:
    fill(tmp_path / "val", "2.jpg", "1.jpg")
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    with pytest.raises(ValueError, match=said):
        list_labeled(tmp_path / "val", labels, NAMES)
