from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("output", ["", "pictures/mine.png"])
def test_one_picture_is_written_and_named(
    output: str, inside: Inside, leave: Leave, tmp_path: Path
) -> None:
    leave("one")
    code, shown, complaint = inside("gallery", "runs", *(["--output", output] if output else []))
    path = tmp_path / (output or "runs/triggers.png")
    assert (code, complaint) == (0, "")
    assert tmp_path / shown.strip() == path
    assert Image.open(path).format == "PNG"


def test_more_attacks_make_a_larger_picture(inside: Inside, leave: Leave, tmp_path: Path) -> None:
    def area() -> int:
        assert inside("gallery", "runs")[0] == 0
        width, height = Image.open(tmp_path / "runs" / "triggers.png").size
        return width * height

    leave("one")
    alone = area()
    leave("two", name="sig")
    assert area() > alone


def test_a_model_without_runs_is_one_line(inside: Inside, leave: Leave, tmp_path: Path) -> None:
    leave("one")
    code, shown, complaint = inside("gallery", "runs", "--model", "rn101_mini")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: ")
    assert not (tmp_path / "runs" / "triggers.png").exists()
