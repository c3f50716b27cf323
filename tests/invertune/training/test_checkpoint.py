from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invertune.training.checkpoint import load_state, save_state

CPU = torch.device("cpu")


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state(path, "tune", {"weights": {"a": torch.arange(3.0)}, "losses": [1.0, 0.5]})
    found = load_state(path, "tune", CPU)
    assert found is not None
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert found["losses"] == [1.0, 0.5]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert load_state(None, "tune", CPU) is None
    assert load_state(tmp_path / "checkpoint.pt", "tune", CPU) is None


def test_a_damaged_file_and_one_of_other_work_start_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half of it")
    assert load_state(path, "tune", CPU) is None
    assert "checkpoint.pt is damaged; tune starts again" in caplog.text
    save_state(path, "implant", {})
    assert load_state(path, "tune", CPU) is None
    assert "checkpoint.pt is of implant; tune starts again" in caplog.text


def test_a_kill_while_writing_leaves_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state(path, "tune", {"step": 1})

    def killed(_state: object, target: Path) -> None:
        target.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, "tune", {"step": 2})
    monkeypatch.undo()
    found = load_state(path, "tune", CPU)
    assert found is not None
    assert found["step"] == 1
