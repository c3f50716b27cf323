from __future__ import annotations

from pathlib import Path

import pytest

from experiments.sweeps.failures import (
    FAILURE_FILE,
    failed,
    failure_line,
    forget_failure,
    record_failure,
)


def test_a_failure_is_a_traceback_and_a_last_line(tmp_path: Path) -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        record_failure(tmp_path / "run", error)
    text = (tmp_path / "run" / FAILURE_FILE).read_text()
    assert text.startswith("Traceback")
    assert "test_failures.py" in text
    assert failure_line(tmp_path / "run").startswith("RuntimeError: two")


def test_a_failure_is_there_until_the_run_is_complete(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert not failed(run)
    record_failure(run, ValueError("no luck"))
    assert failed(run)
    forget_failure(run)
    assert not failed(run)
    forget_failure(run)  # once more is no error


def test_what_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    record_failure(tmp_path / "file", ValueError("no luck"))
    assert "does not take the traceback" in caplog.text
    assert failure_line(tmp_path / "run").startswith(f"{FAILURE_FILE} cannot be read")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"Traceback\n\nValueError: a\x1b[2J\r\n", r"ValueError: a\x1b[2J"),
        (b"ValueError: a\xe2\x80\xa8done\n \n", r"ValueError: a\u2028done"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b" \n", "unknown"),
    ],
)
def test_the_line_of_a_foreign_file_hides_nothing(
    tmp_path: Path, content: bytes, line: str
) -> None:
    (tmp_path / FAILURE_FILE).write_bytes(content)
    assert failure_line(tmp_path) == line
