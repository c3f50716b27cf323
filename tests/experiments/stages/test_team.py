"""Words between the processes of a run, in threads of one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from experiments.config import CONF
from experiments.stages import team as module
from experiments.stages.team import Team, is_member
from invertune.training.distributed import LostProcessError, Ranks


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Team, Team]:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LATE", 0.1)
    store = dist.HashStore()
    return Team(0, 2, 0, 2, 0, store), Team(1, 2, 1, 2, 0, store)


def _meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_first_process_says_what_comes_next(two: tuple[Team, Team]) -> None:
    first, second = two
    heard: list[str] = []

    def listen() -> None:
        for call in second.calls():
            heard.append(call)
            if call == "end":
                return

    listening = _meanwhile(listen)
    for number, what in enumerate(["pretrain", "implant", "end"]):
        first.call(number, what)
        time.sleep(0.02)
    listening.join(timeout=20)
    assert heard == ["pretrain", "implant", "end"]
    assert (first.leads, second.leads) == (True, False)
    assert (first.ranks, second.ranks) == (Ranks(0, 2), Ranks(1, 2))


_ORPHAN = """
import os, time
while os.getppid() == int(os.environ["INVERTUNE_LAUNCHED"]):
    time.sleep(0.01)
from experiments.stages.team import Team
Team.met()
"""
_PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]],
                 env={**os.environ, "INVERTUNE_LAUNCHED": str(os.getpid())})
"""


def test_a_process_whose_parent_is_gone_waits_for_nobody() -> None:
    alone = {"TORCHELASTIC_RUN_ID": "gone", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "1",
             "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": "9"}  # fmt: skip
    # What is read ends with the last process that could write it.
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, _ORPHAN],
        env={**os.environ, **alone}, cwd=CONF.parent, capture_output=True, timeout=600, check=True,
    )  # fmt: skip
    assert done.stderr == b""  # it went on to meet the others, and did not fail


def test_who_waits_hears_of_a_failure(two: tuple[Team, Team]) -> None:
    first, second = two
    assert second.cause() is None
    assert first.fail("the disk is full") is None
    with pytest.raises(LostProcessError, match="process 0: the disk is full"):
        next(second.calls())
    assert second.fail("the disk is full") == "process 0: the disk is full"
    assert second.cause() == "process 0: the disk is full"


def test_each_process_has_a_gpu_of_its_own(two: tuple[Team, Team]) -> None:
    asked: list[int] = []

    def lease(count: int) -> list[int]:
        asked.append(count)
        return [5, 3]

    assert two[0].share_gpus(lease) == 5
    assert two[1].share_gpus(lease) == 3
    assert asked == [2]


def test_a_single_process_is_no_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # as a job of another kind may have it
    assert not is_member()
    assert Team.met() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert is_member()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not is_member()


def test_processes_connect_once_all_of_them_are_there(
    two: tuple[Team, Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[int] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(
        dist, "init_process_group", lambda *_, rank, **fields: connected.append(rank)
    )
    waiting = _meanwhile(lambda: two[0].connect(torch.device("cpu")))
    time.sleep(0.1)
    assert connected == []
    two[1].connect(torch.device("cpu"))
    waiting.join(timeout=20)
    assert sorted(connected) == [0, 1]


def test_a_process_that_ends_while_they_connect_is_lost(
    two: tuple[Team, Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*_: object, **__: object) -> None:
        raise dist.DistNetworkError("connection closed by peer\n#0 in gloo\n#1 in gloo")

    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", init)
    two[1].store.set("ready/1", "")
    with pytest.raises(LostProcessError) as raised:
        two[0].connect(torch.device("cpu"))
    said = "another process of this training does not answer: connection closed by peer"
    assert str(raised.value) == said
