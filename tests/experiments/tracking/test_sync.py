from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.commands.sync import main
from experiments.tracking import sync as module
from experiments.tracking.sync import arrived, sync, wandb_sync


def _logged(
    runs: Path, name: str, *, mode: str = "offline", sent: bool = False, named: bool = True
) -> Path:
    """Make a run that was logged to the end, and an attempt before it that was cut off."""
    record = {"id": name, "mode": mode, "project": "p", "group": None}
    wandb = runs / name / "wandb"
    for day in ("01", "02"):
        folder = wandb / f"offline-run-202601{day}_000000-{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").write_bytes(b"log")
    if sent:
        (folder / f"run-{name}.wandb.synced").touch()
    if named:
        record["run"] = folder.name
    (runs / name / "tracking.json").write_text(json.dumps(record))
    return folder


class _Push:
    """Takes every run but those named ``bad``."""

    def __init__(self) -> None:
        self.calls: list[list[Path]] = []

    def __call__(self, folders: Sequence[Path]) -> str:
        self.calls.append(list(folders))
        for folder in folders:
            for log in folder.glob("*.wandb"):
                if "bad" not in log.name:
                    log.with_name(f"{log.name}.synced").touch()
        return "the server says no"

    @property
    def folders(self) -> list[Path]:
        return [folder for call in self.calls for folder in call]


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)


def test_only_finished_offline_runs_are_pushed_and_once(tmp_path: Path) -> None:
    first, old = _logged(tmp_path, "one"), _logged(tmp_path, "two", named=False)
    _logged(tmp_path, "three", sent=True)
    _logged(tmp_path, "four", mode="online")
    _logged(tmp_path, "five")
    (tmp_path / "five" / "tracking.json").unlink()  # killed before its end
    (tmp_path / "stages").mkdir()
    push = _Push()
    assert str(sync(tmp_path, push)) == "pushed 2, already there 1, failed 0"
    assert push.folders == [first, old]  # not the attempts before
    assert str(sync(tmp_path, push)) == "pushed 0, already there 3, failed 0"
    assert len(push.calls) == 1


def test_a_failure_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bad", "good"):
        _logged(tmp_path, name)
    assert str(sync(tmp_path, _Push())) == "pushed 1, already there 0, failed 1"
    assert capsys.readouterr().err == "failed: bad: the server says no\n"


def test_a_log_that_is_gone_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for named in (True, False):
        folder = _logged(tmp_path, f"gone{named}", named=named)
        for log in folder.parent.glob("*/*.wandb"):
            log.unlink()
    for folder in (tmp_path / "goneFalse" / "wandb").iterdir():
        folder.rmdir()
    push = _Push()
    assert str(sync(tmp_path, push)) == "pushed 0, already there 0, failed 2"
    assert not push.calls
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "goneFalse", "goneTrue",
    ]  # fmt: skip


def test_where_nothing_arrives_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    for i in range(5):
        _logged(tmp_path, f"bad{i}")
    push = _Push()
    assert str(sync(tmp_path, push)) == "pushed 0, already there 0, failed 5"
    assert [len(call) for call in push.calls] == [2]


def test_without_a_key_one_line_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "pushed 0, already there 0, failed 0\n"
    _logged(tmp_path, "one")
    with pytest.raises(ValueError, match=r"needs a W&B key: .*authorize.*WANDB_API_KEY"):
        main([str(tmp_path)])
    with pytest.raises(ValueError, match="nowhere is not a folder of runs"):
        main([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1)])
def test_the_exit_code_says_whether_all_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    _logged(tmp_path, name)
    monkeypatch.setenv("WANDB_API_KEY", "none")
    monkeypatch.setattr(module, "wandb_sync", _Push())
    assert main([str(tmp_path)]) == code


def test_what_is_handed_to_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in Python's place, which marks the run and leaves a file where it stands."""
    fake = tmp_path / "fake"
    fake.write_text(
        '#!/bin/sh\n[ "$*" = "-m wandb sync $4" ] || exit 3\n'
        'touch "$4/run-one.wandb.synced" here "$WANDB_DIR/there"\necho first\necho last >&2\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(fake))
    folder = _logged(tmp_path / "runs", "one")
    monkeypatch.chdir(tmp_path)
    assert wandb_sync([folder.relative_to(tmp_path)]) == "last"
    assert arrived(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"fake", "runs"}
