from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.sealed import HASH, Sealed


@pytest.fixture
def notes(tmp_path: Path) -> Sealed:
    schema = tmp_path / "note.schema.json"
    kept = {"edition": {"const": 3}, "rate": {"type": "number"}}
    schema.write_text(json.dumps({"type": "object", "required": ["rate"], "properties": kept}))
    return Sealed(schema, 3, "edition")


def test_what_is_written_is_read_back_with_its_hash(notes: Sealed, tmp_path: Path) -> None:
    content = {"edition": 3, "rate": 0.1, "name": "Zürich"}
    notes.write(tmp_path / "deep" / "note.json", content)
    found = notes.read(tmp_path / "deep" / "note.json")
    assert {key: value for key, value in found.items() if key != HASH} == content
    assert notes.seal(found) == found  # the hash is of all but itself


def test_the_same_content_leaves_the_file_alone(notes: Sealed, tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    notes.write(path, {"edition": 3, "rate": 1})
    before = path.stat().st_ino
    notes.write(path, notes.read(path))
    assert path.stat().st_ino == before
    notes.write(path, {"edition": 3, "rate": 2})
    assert path.stat().st_ino != before


def test_what_differs_from_the_schema_is_not_written(notes: Sealed, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate: 'high' is not of type 'number'"):
        notes.write(tmp_path / "note.json", {"edition": 3, "rate": "high"})
    assert not (tmp_path / "note.json").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "it is no JSON, or truncated"),
        (lambda text: "[" * 10**6, "it is no JSON, or truncated"),
        (lambda text: "[]", "its schema version is None, this program reads 3"),
        (lambda text: text.replace('"edition": 3', '"edition": 4'), "its schema version is 4"),
        (lambda text: text.replace("0.25", "0.75"), "it was edited"),
        (lambda text: text.replace(HASH, "sha1"), "it was edited"),
    ],
)
def test_damage_is_named(
    notes: Sealed, tmp_path: Path, damage: Callable[[str], str], said: str
) -> None:
    path = tmp_path / "note.json"
    notes.write(path, {"edition": 3, "rate": 0.25})
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        notes.read(path)


def test_what_a_stranger_seals_is_compared_with_the_schema(notes: Sealed, tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text(json.dumps(notes.seal({"edition": 3, "rate": "high"})))
    with pytest.raises(ValueError, match="rate: 'high' is not of type 'number'"):
        notes.read(path)


def test_a_number_that_is_none_is_no_json(notes: Sealed, tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text('{"edition": 3, "rate": NaN, "sha256": "0"}')
    with pytest.raises(ValueError, match="it is no JSON, or truncated"):
        notes.read(path)
