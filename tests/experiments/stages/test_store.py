from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import CONF
from experiments.stages.keys import StageKey
from experiments.stages.manifest import MANIFEST
from experiments.stages.store import CHECKPOINT, StageStore

KEY = StageKey("count", {"lr": 0.1, "classes": {"apple": "a", "lemon": "l"}}, {"model": "ab"}, 0)


def _write_ten(folder: Path) -> None:
    (folder / "number.json").write_text("10")
    (folder / "deep").mkdir()
    (folder / "deep" / "other.bin").write_bytes(b"\0" * 1000)


def test_a_stage_is_made_once(tmp_path: Path) -> None:
    store, calls = StageStore(tmp_path), []

    def produce(folder: Path) -> None:
        calls.append(folder)
        _write_ten(folder)

    first, second = store.obtain(KEY, produce), store.obtain(KEY, produce)
    assert len(calls) == 1
    assert first.path == second.path == store.root / KEY.folder_name
    assert second.json("number.json") == 10
    assert second.has("deep/other.bin")
    assert [path.name for path in store.root.iterdir()] == [KEY.folder_name]


def test_a_failed_stage_leaves_nothing_but_its_checkpoint(tmp_path: Path) -> None:
    store = StageStore(tmp_path)

    def produce(folder: Path) -> None:
        if not (folder / CHECKPOINT).exists():
            (folder / CHECKPOINT).write_text("half")
            (folder / "number.json").write_text("5")
            raise ValueError("midway")
        assert not (folder / "number.json").exists()
        (folder / "number.json").write_text((folder / CHECKPOINT).read_text())

    with pytest.raises(ValueError, match="midway"):
        store.obtain(KEY, produce)
    assert not store.has(KEY)
    made = store.obtain(KEY, produce)
    assert made.file("number.json").read_text() == "half"
    assert made.manifest["resumed"]
    assert not made.file(CHECKPOINT).exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from experiments.stages.keys import StageKey
from experiments.stages import manifest
from experiments.stages.store import StageStore
def produce(folder):
    (folder / "number.json").write_text("5")
    if sys.argv[3] == "early":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "number.json").write_text("10")
if sys.argv[3] == "late":
    manifest.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
StageStore(Path(sys.argv[1])).obtain(StageKey("count", {}, {}, 0), produce)
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_kill_at_any_moment_leaves_no_complete_folder(tmp_path: Path, moment: str) -> None:
    words = [sys.executable, "-c", _KILLED, str(tmp_path), str(CONF.parent), moment]
    assert subprocess.run(words, check=False).returncode == -9
    store, key = StageStore(tmp_path), StageKey("count", {}, {}, 0)
    assert not store.has(key)
    made = store.obtain(key, _write_ten)
    assert made.json("number.json") == 10
    assert [path.name for path in store.root.iterdir()] == [key.folder_name]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("deep/other.bin", b"\0" * 500, "has 500 of 1000 bytes"),
        ("deep/other.bin", b"\1" * 1000, "another SHA-256"),
        ("number.json", None, "No such file"),
        (MANIFEST, b'{"files": ', "cannot be read"),
        (MANIFEST, b"[]", "cannot be read"),
        (MANIFEST, None, "cannot be read"),
    ],
)
def test_damage_is_named_and_the_stage_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, content: bytes | None, said: str
) -> None:
    store = StageStore(tmp_path)
    path = store.obtain(KEY, _write_ten).file(file)
    path.unlink() if content is None else path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = store.obtain(KEY, _write_ten)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert KEY.folder_name in warning.message
    assert file in warning.message
    assert said in warning.message
    assert again.json("number.json") == 10
    assert store.find(KEY) is not None


def test_the_faster_of_two_processes_wins(tmp_path: Path) -> None:
    store = StageStore(tmp_path)

    def produce(folder: Path) -> None:
        # Another process, with a store of its own, completes the same stage meanwhile.
        folder.rename(folder.with_name("away"))
        StageStore(tmp_path).make(KEY, _write_ten)  # on a disk without locks
        folder.with_name("away").rename(folder)
        (folder / "number.json").write_text("11")

    assert store.obtain(KEY, produce).json("number.json") == 10
    assert [path.name for path in store.root.iterdir()] == [KEY.folder_name]


def test_a_full_disk_is_an_os_error_whoever_says_it(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match="No space left on device"):
        StageStore(tmp_path).obtain(KEY, produce)
