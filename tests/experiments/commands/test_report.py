from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("output", ["", "pages/mine.html"])
def test_one_page_is_written_and_named(
    output: str, inside: Inside, leave: Leave, tmp_path: Path
) -> None:
    leave("one")
    code, shown, complaint = inside("report", "runs", *(["--output", output] if output else []))
    page = tmp_path / (output or "runs/report.html")
    assert (code, complaint) == (0, "")
    assert (tmp_path / shown.strip()) == page
    text = page.read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "badnet" in text
    assert "data:image/png;base64," in text  # the pictures are in the page


@pytest.mark.parametrize("folder", ["nowhere", "runs"])
def test_nothing_to_show_is_one_line(folder: str, inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, shown, complaint = inside("report", folder)
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: ")
    assert folder in complaint
    assert list((tmp_path / "runs").iterdir()) == []
