from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experiments.tracking import sync

Inside = Callable[..., tuple[int, str, str]]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """Return the log of an offline run that was not sent."""
    folder = tmp_path / "runs" / "one" / "wandb" / "offline-run-20260101_000000-one"
    folder.mkdir(parents=True)
    record = {"id": "one", "mode": "offline", "project": "p", "group": None, "run": folder.name}
    (tmp_path / "runs" / "one" / "tracking.json").write_text(json.dumps(record))
    (folder / "run-one.wandb").write_bytes(b"log")
    return folder


@pytest.fixture
def push(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Take every run that is sent; nothing leaves this machine."""
    sent: list[Path] = []

    def take(folders: Sequence[Path]) -> str:
        sent.extend(folders)
        for folder in folders:
            (folder / "run-one.wandb.synced").touch()
        return ""

    monkeypatch.setattr(sync, "wandb_sync", take)
    monkeypatch.setattr(sync, "has_key", lambda: True)
    return sent


def test_a_run_is_sent_once(inside: Inside, logged: Path, push: list[Path]) -> None:
    assert inside("sync", "runs") == (0, "pushed 1, already there 0, failed 0\n", "")
    assert inside("sync", "runs") == (0, "pushed 0, already there 1, failed 0\n", "")
    assert [path.name for path in push] == [logged.name]


def test_a_run_that_does_not_arrive_is_named(
    inside: Inside, logged: Path, push: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "wandb_sync", lambda _: "the server says no")
    code, shown, complaint = inside("sync", "runs")
    assert (code, shown) == (1, "pushed 0, already there 0, failed 1\n")
    assert complaint == "failed: one: the server says no\n"
    assert (logged / "run-one.wandb").exists()
    assert push == []


def test_no_key_is_one_line_that_says_where_to_get_one(inside: Inside, logged: Path) -> None:
    code, shown, complaint = inside("sync", "runs")
    assert logged.exists()
    assert (code, shown, complaint) == (1, "", f"error: {sync.NO_KEY}\n")


def test_no_folder_is_one_line(inside: Inside) -> None:
    assert inside("sync", "nowhere") == (1, "", "error: nowhere is not a folder of runs\n")
