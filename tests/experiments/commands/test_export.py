from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.commands import export

Inside = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "model"), [([], "backdoored"), (["--model", "purified"], "purified")]
)
def test_the_bundle_is_written_where_it_is_wanted_and_named(
    words: list[str], model: str, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, Path, str]] = []

    def write(run: Path, folder: Path, which: str) -> Path:
        asked.append((run, folder, which))
        return folder

    monkeypatch.setattr(export, "write_bundle", write)
    assert inside("export", "runs/one", "mine", *words) == (0, "mine\n", "")
    assert asked == [(Path("runs/one"), Path("mine"), model)]


def test_a_folder_without_a_result_is_one_line(inside: Inside, tmp_path: Path) -> None:
    code, shown, complaint = inside("export", "runs/one", "mine")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: runs/one is no folder of a complete run")
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_holds_something_is_left_alone(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    code, _, complaint = inside("export", "runs/one", "mine")
    assert (code, complaint.count("\n")) == (1, 1)
    assert complaint.startswith("error: mine exists already")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_unknown_model_is_wrong_usage(
    inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        inside("export", "runs/one", "mine", "--model", "clean")
    assert stopped.value.code == 2
    assert "invalid choice: 'clean'" in capsys.readouterr().err
