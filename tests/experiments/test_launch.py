from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import launch as module
from experiments.config import CONF
from experiments.launch import ProcessEndedError, ProcessesFailedError, launch

MEMBER = """
import os, pickle, signal, sys, time
config = pickle.loads(sys.stdin.buffer.read())
rank = os.environ["RANK"]
told = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "INVERTUNE_LAUNCHED")]
open(f"{config['folder']}/{rank}", "w").write(" ".join(told))
exec(config.get(rank, ""))
"""


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let other programs be started, which need no torch; return the folder that they write to."""
    (tmp_path / "a_member.py").write_text(MEMBER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "_MEMBER", "a_member")
    monkeypatch.setattr(module, "_GRACE", 1.0)
    return tmp_path


def test_every_process_knows_who_it_is(members: Path) -> None:
    launch({"folder": str(members)}, 2)
    assert (members / "0").read_text() == f"0 0 2 {os.getpid()}"
    assert (members / "1").read_text() == f"1 1 2 {os.getpid()}"


def test_a_process_that_is_killed_ends_them_all(members: Path) -> None:
    started = time.monotonic()
    config = {"folder": str(members), "0": "time.sleep(300)",
              "1": "os.kill(os.getpid(), signal.SIGKILL)"}  # fmt: skip
    with pytest.raises(ProcessEndedError, match=r"process 1 of 2 was ended by signal 9 \(SIGKIL"):
        launch(config, 2)
    assert time.monotonic() - started < 100


def test_a_process_that_fails_has_said_why(members: Path) -> None:
    config = {"folder": str(members), "0": "sys.exit(1)", "1": "time.sleep(300)"}
    with pytest.raises(ProcessesFailedError):
        launch(config, 2)


def test_processes_that_only_lost_each_other_are_told_of(members: Path) -> None:
    lost = """
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=False)
store.set("lost", "no answer")
sys.exit(1)
"""
    with pytest.raises(ProcessEndedError, match="no answer"):
        launch({"folder": str(members), "0": lost}, 2)


def test_of_what_libraries_write_only_lost_connections_are_left_out(
    members: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    writes = """
os.write(2, b"[/src/gloo/transport/tcp/debug_logger.cc:9] ERROR failed to connect, retry=1\\n")
os.write(2, b"a library's warning: failed to connect the dots\\nno end of line")
os.write(int(os.environ["INVERTUNE_STDERR"]), b"our own\\n")
"""
    launch({"folder": str(members), "1": writes}, 2)
    said = capfd.readouterr().err
    assert sorted(said.splitlines()) == [
        "a library's warning: failed to connect the dots", "no end of line", "our own",
    ]  # fmt: skip


def test_without_a_stderr_the_processes_have_one_that_nobody_reads(members: Path) -> None:
    writes = "os.write(int(os.environ['INVERTUNE_STDERR']), b'x'); os.write(2, b'y')"
    program = f"""
from experiments import launch
launch._MEMBER = "a_member"
launch.launch({{"folder": {str(members)!r}, "0": {writes!r}}}, 1)
"""
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    path = os.pathsep.join([str(members), str(CONF.parent)])
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)
    assert (members / "0").read_text().startswith("0 0 1 ")
