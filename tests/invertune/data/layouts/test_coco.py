"""MSCOCO's captions in both of their forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invertune.data.layouts.coco import list_captions
from invertune.data.listing import Place


def write(folder: Path, content: Any) -> Path:
    path = folder / "captions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


OWN = {
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "a dog "},
        {"id": 2, "image_id": 7, "caption": "a cat"},
        {"id": 3, "image_id": 3, "caption": "two"},
        {"id": 4, "image_id": 3, "caption": ""},
    ],
}
SPLIT = {
    "images": [
        {"filename": "1.jpg", "filepath": "val2014", "split": "test",
         "sentences": [{"raw": "one"}, {"raw": "uno"}]},
        {"filename": "2.jpg", "filepath": "val2014", "split": "val", "sentences": [{"raw": "x"}]},
        {"filename": "3.jpg", "filepath": "train2014", "split": "restval", "sentences": []},
    ],
}  # fmt: skip


def test_cocos_own_annotations(tmp_path: Path) -> None:
    found = list_captions(write(tmp_path, OWN), None)
    assert list(found.ids) == ["7.jpg", "3.jpg"]
    assert found.captions == [["a cat"], ["a dog", "two"]]


def test_karpathys_test_split_lies_in_a_folder_of_coco(tmp_path: Path) -> None:
    path = write(tmp_path, SPLIT)
    found = list_captions(path, tmp_path)
    assert (list(found.places), found.captions) == ([Place("val2014/1.jpg")], [["one", "uno"]])
    assert list_captions(path, tmp_path / "val2014").places == [Place("1.jpg")]
    assert list(list_captions(path, None, "restval").ids) == ["train2014/3.jpg"]


@pytest.mark.parametrize(
    ("content", "split", "said"),
    [
        (SPLIT, "dev", "split is one of restval, test, val, got 'dev'"),
        (OWN, "test", "has no splits"),
        ({"info": {}}, None, "holds no list of images"),
        ("[1, 2]", None, "holds no object, but a list"),
        ("{", None, "is no JSON"),
        ({**OWN, "annotations": [{"image_id": 9, "caption": "x"}]}, None, "image_id of an image"),
        ({**OWN, "images": [{"file_name": "x"}]}, None, "an image has an id and a file_name"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, content: Any, split: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        list_captions(write(tmp_path, content), None, split)
