from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.stages.locks import held, holder, is_held

HOLD = """
import sys, time
from pathlib import Path
from experiments.stages.locks import held
with held(Path(sys.argv[1]), "stage-1"):
    print("held", flush=True)
    time.sleep(60)
"""


def _start(runs: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(runs)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_held_by_one_process_until_it_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = _start(tmp_path)
    try:
        assert is_held(tmp_path, "stage-1")
        assert not is_held(tmp_path, "stage-2")
        assert f"process {other.pid} on" in holder(tmp_path, "stage-1")
        taken: list[float] = []

        def wait() -> None:
            with held(tmp_path, "stage-1"):
                taken.append(time.monotonic())

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(timeout=1.5)
        assert taken == []
    finally:
        other.kill()
    waiting.join(timeout=20)
    assert len(taken) == 1
    assert f"process {other.pid}" in caplog.text  # whose death is told
    assert not is_held(tmp_path, "stage-1")
    assert holder(tmp_path, "stage-1") == ""


def test_an_error_inside_frees_the_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="inside"), held(tmp_path, "a"):
        raise ValueError("inside")
    with held(tmp_path, "a"):
        pass
    assert caplog.text == ""
