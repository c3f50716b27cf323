from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.bundles.whole import whole_folder
from experiments.config import CONF

NAMES = ("weights", "card")
# A job that a shell has put into the background, as this test may be, ignores SIGINT.
_WRITER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[2])
from experiments.bundles.whole import whole_folder
with whole_folder(Path(sys.argv[1]), ("weights", "card")) as partial:
    (partial / "weights").write_text("half")
    (partial / ".card.123").write_text("half of a card")
    print("writing", flush=True)
    time.sleep(60)
"""


def _ended_by(number: int, folder: Path) -> int:
    """Return the exit code of a writer that a signal meets in the middle."""
    words = [sys.executable, "-c", _WRITER, str(folder), str(CONF.parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(number)
    return process.returncode


def _write(folder: Path) -> None:
    with whole_folder(folder, NAMES) as partial:
        for name in NAMES:
            (partial / name).write_text("whole")


def test_a_folder_is_there_whole(tmp_path: Path) -> None:
    _write(tmp_path / "new" / "bundle")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bundle"]
    assert sorted(path.name for path in (tmp_path / "new" / "bundle").iterdir()) == sorted(NAMES)


def test_an_error_leaves_nothing_not_even_the_folders_above(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "new" / "deep" / "bundle", NAMES) as partial:
            (partial / "weights").write_text("half")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_end_leaves_nothing(tmp_path: Path, number: int) -> None:
    assert _ended_by(number, tmp_path / "new" / "bundle") != 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    assert _ended_by(signal.SIGKILL, tmp_path / "bundle") == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    _write(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_looks_alike_is_somebodys(tmp_path: Path) -> None:
    other = tmp_path / ".mine.20240101"
    other.mkdir()
    (other / "weights").write_text("precious")
    os.utime(other, (0, 0))
    _write(tmp_path / "bundle")
    assert (other / "weights").read_text() == "precious"


def test_a_number_that_is_ours_now_was_anothers(tmp_path: Path) -> None:
    left = tmp_path / f".bundle.{os.getpid()}"
    left.mkdir()
    (left / "weights").write_text("half")
    _write(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_process_that_lives_keeps_its_folder(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _WRITER, str(tmp_path / "bundle"), str(CONF.parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = tmp_path.iterdir()
        old = time.time() - 3600
        os.utime(left, (old, old))
        _write(tmp_path / "bundle")
        assert (left / "weights").read_text() == "half"
        process.kill()


@pytest.mark.parametrize("name", [".notes.123", ".bundle.99999999"])
def test_a_folder_with_anything_else_in_it_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("precious")
    (tmp_path / ".link.123").symlink_to(tmp_path / name)
    _write(tmp_path / "bundle")
    assert (tmp_path / name / "thesis.tex").read_text() == "precious"
    assert (tmp_path / ".link.123").is_symlink()
