from __future__ import annotations

from pathlib import Path

import pytest

from experiments.files import fingerprint
from experiments.stages.keys import StageKey
from experiments.stages.manifest import MANIFEST, fault, read_manifest, write_manifest

KEY = StageKey("count", {"lr": 0.1}, {}, 0)


def test_a_stage_notes_its_files_and_what_it_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.bin").write_bytes(b"123")
    write_manifest(tmp_path, KEY, seconds=1.5, resumed=True)
    noted = read_manifest(tmp_path)
    assert noted["files"] == {"deep/a.bin": fingerprint(tmp_path / "deep" / "a.bin")}
    assert (noted["key"], noted["hash"]) == (KEY.plain, KEY.hash)
    assert (noted["seconds"], noted["resumed"]) == (1.5, True)
    assert noted["peak_memory_mib"] > 0
    assert "torch" in noted["versions"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"files": 3}'])
def test_a_note_that_is_none_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises((ValueError, TypeError, KeyError)):
        read_manifest(tmp_path)


def test_a_fault_is_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"123")
    noted = fingerprint(path)
    assert fault(path, noted) is None
    path.write_bytes(b"124")
    assert fault(path, noted) == "has another SHA-256"
    path.write_bytes(b"12")
    assert fault(path, noted) == "has 2 of 3 bytes"
    path.unlink()
    assert fault(path, noted) == "cannot be read (No such file or directory)"
