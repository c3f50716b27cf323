from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.names import plain_name, runs_folder


@pytest.mark.parametrize("name", ["rn50_mini", "tiny resnet", "a.b", "2024", "苹果", "x" * 64])
def test_a_plain_name_stays(name: str) -> None:
    assert plain_name(name, "model.name") == name


def test_a_number_is_taken_as_text() -> None:
    assert plain_name(2024, "model.name") == "2024"
    assert runs_folder(2024) == Path("2024")


@pytest.mark.parametrize(
    "name",
    ["ViT-B/32", "../x", "/tmp/x", "a\\b", "..", ".", "", ".x", "-x", " x", "x ", "a\nb", "\x1b[2J",
     "\0", "x" * 65, "\ud800", None, True, ["x"]],
)  # fmt: skip
def test_what_is_no_plain_name_is_one_line(name: Any) -> None:
    with pytest.raises(
        ValueError, match=r"model\.name is a plain folder name of .*; got"
    ) as raised:
        plain_name(name, "model.name")
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_folder_of_runs_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert runs_folder("../runs") == Path("../runs")
    assert runs_folder("~/runs") == Path("/home/me/runs")


@pytest.mark.parametrize("value", ["", " ", None, True, [1], "a\nb"])
def test_what_is_no_path_is_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match="runs_dir is the path of a folder, got"):
        runs_folder(value)
