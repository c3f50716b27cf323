from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Inside = Callable[..., tuple[int, str, str]]


def test_a_sheet_of_every_part_is_written_and_named(inside: Inside, tmp_path: Path) -> None:
    code, shown, complaint = inside("sheets", "out", "--count", "2", "data.image_size=16")
    paths = [tmp_path / line for line in shown.splitlines()]
    assert (code, complaint) == (0, "")
    assert [path.stem for path in paths] == ["pairs", "clean", "zero_shot", "retrieval"]
    assert all(Image.open(path).format == "PNG" for path in paths)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "0"], "count is a number of pictures, at least 1, got 0"),
        (["--data", "imagenet"], "imagenet"),
        (["data.no_such_field=1"], "no_such_field"),
    ],
)
def test_bad_input_is_said_and_leaves_nothing(
    words: list[str], said: str, inside: Inside, tmp_path: Path
) -> None:
    code, shown, complaint = inside("sheets", "out", *words)
    assert (code, shown) == (1, "")
    assert complaint.startswith("error: ")
    assert said in complaint
    assert not (tmp_path / "out").exists()
