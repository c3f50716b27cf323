"""Class lists: CLIP's own of ImageNet, and those of files."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from invertune.clip.texts import check_classes
from invertune.data.classes import Classes


def test_imagenet_is_clips_own_list_in_which_no_name_stands_twice() -> None:
    names, prompts, templates = Classes(names="imagenet").load()
    theirs = open_clip.IMAGENET_CLASSNAMES
    assert [i for i in range(1000) if names[i] != theirs[i]] == [744, 836]
    assert len({*names}) == 1000
    assert prompts == names
    assert len(templates) == 80
    assert templates[0] == "a bad photo of a {}."
    check_classes(open_clip.SimpleTokenizer(), names, prompts, templates[:2])


def test_a_file_has_names_and_prompts(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("apple\tan apple\n\nsocks\n")
    names, prompts, templates = Classes(path=str(path), templates=["a {}"]).load()
    assert (names, prompts, templates) == (("apple", "socks"), ("an apple", "socks"), ("a {}",))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "has no class names"), ("a\tb\tc\n", "line 1: a class name"), ("a\na\n", "'a' twice")],
)
def test_wrong_files(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        Classes(path=str(path)).load()


def test_wrong_fields() -> None:
    with pytest.raises(ValueError, match=r"names .* or a path, one of the two"):
        Classes()
    with pytest.raises(ValueError, match=r"classes.names is a list, or imagenet, got 'coco'"):
        Classes(names="coco")
    with pytest.raises(ValueError, match=r"classes.templates"):
        Classes(names=["a"], templates=["no place"])
