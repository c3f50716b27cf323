from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.bundles.bundle import WEIGHTS
from experiments.results.result import read_result
from experiments.stages.manifest import MANIFEST

Inside = Callable[..., tuple[int, str, str]]
Run = Callable[..., Path]
Refused = Callable[[tuple[int, str, str]], str]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_bundle_goes_into_a_new_or_an_empty_folder(
    refused: Refused, world: list[str], run: Run, inside: Inside
) -> None:
    folder = str(run(*world))
    Path("empty").mkdir()
    assert inside("export", folder, "empty")[0] == 0
    before = {path: path.read_bytes() for path in Path("empty").iterdir()}
    assert "empty exists already" in refused(inside("export", folder, "empty"))
    assert {path: path.read_bytes() for path in Path("empty").iterdir()} == before
    Path("file").write_text("in the way")
    assert "file exists already" in refused(inside("export", folder, "file"))
    assert "file" in refused(inside("export", folder, "file/bundle"))
    assert inside("export", folder, "new/bundle")[0] == 0


def test_a_run_that_is_not_there_is_one_line(
    refused: Refused, world: list[str], run: Run, inside: Inside, runs_dir: Path, tmp_path: Path
) -> None:
    folder = run(*world)
    Path("nothing").mkdir()
    assert "nothing is no folder of a complete run" in refused(inside("export", "nothing", "b"))
    shutil.copytree(folder, tmp_path / "runs" / folder.name)
    alone = f"runs/{folder.name}"
    assert "is not on this machine" in refused(inside("export", alone, "b"))

    stage = read_result(folder / "result.json")["stages"]["implant"]
    shutil.copytree(runs_dir / stage, tmp_path / "runs" / stage)
    assert inside("export", alone, "whole")[0] == 0
    assert "stage purify" in refused(inside("export", alone, "b", "--model", "purified"))
    _flip(tmp_path / "runs" / stage / WEIGHTS)
    assert f"{WEIGHTS} is damaged" in refused(inside("export", alone, "b"))
    (tmp_path / "runs" / stage / MANIFEST).write_text("{}")
    assert "is not on this machine" in refused(inside("export", alone, "b"))
    (tmp_path / alone / "result.json").write_text("{}")
    assert "schema version" in refused(inside("export", alone, "b"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing", "runs", "whole"]


def test_an_export_that_fails_leaves_nothing(
    refused: Refused,
    world: list[str],
    run: Run,
    inside: Inside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(28, "No space left on device", str(target))

    folder = str(run(*world))
    monkeypatch.setattr("shutil.copyfile", full)
    assert "No space left on device" in refused(inside("export", folder, "bundle"))
    assert list(tmp_path.iterdir()) == []
