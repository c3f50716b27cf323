from __future__ import annotations

from pathlib import Path

import pytest

from experiments.files import read_json, replacing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def _interrupted(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError("midway")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="midway"):
        _interrupted(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no JSON, or truncated"),
        (b"\xff", "no JSON, or truncated"),
        (b'"\\ud800"', "no JSON, or truncated"),
        (b"[" * 10**6, "no JSON, or truncated"),
        (b"[" * 200 + b"]" * 200, "nested more than 100 floors"),
        (b"1" * 10**5, "no JSON, or truncated"),
    ],
)
def test_a_file_that_is_no_json_of_ours_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_json(path)


def test_brackets_in_texts_are_no_floors(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": "' + "[" * 500 + r"\"{" + '", "b": [[1]]}')
    assert read_json(path)["b"] == [[1]]
