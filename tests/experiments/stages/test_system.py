from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import CONF
from experiments.stages import system


def test_versions_name_what_decides_numbers() -> None:
    found = system.versions()
    assert {"invertune", "torch", "open_clip_torch", "numpy"} <= found.keys()
    assert found["python"] == platform.python_version()
    assert found["torch"][0].isdigit()


def test_a_copy_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert system._commit() is None


def test_the_peak_only_rises() -> None:
    before = system.peak_memory_mib()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    after = system.peak_memory_mib()
    del block
    # The system counts pages of several processors together from time to time only.
    assert 1 < before <= after <= system.peak_memory_mib() + 1


_FORGETS = """
from experiments.stages import system
block = bytearray(256 << 20)
block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
before = system.peak_memory_mib()
del block
system.forget_peak_memory()
print(before, system.peak_memory_mib())
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone forgets")
def test_a_peak_of_before_is_forgotten() -> None:
    # In a process of its own: what one has done before decides what it gives back to the system.
    done = subprocess.run(
        [sys.executable, "-c", _FORGETS], cwd=CONF.parent, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    before, after = map(float, done.stdout.split())
    assert before > 256
    assert after < before - 200
