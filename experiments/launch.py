"""Several processes for one run, on this machine: what torchrun does, with less to say.

torchrun itself takes a page to say that a process ended, and takes the signals by which Slurm
announces that a job is put back into the queue. The processes find the same environment here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from experiments.config import CONF
from experiments.stages.team import FAILED, LAUNCHED, LOST

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

STDERR = "INVERTUNE_STDERR"  # the descriptor of a process's own lines; see `_sifted`
_MEMBER = "experiments.member"
_PAUSE = 0.1
_GRACE = 10.0  # seconds for the others to end by themselves once one has
_LAST_WORDS = 2.0  # seconds for what a process of a process that has ended still writes
# Gloo says so at any level of its own for each try to reach a process that is gone.
_NOISE = (b"gloo/transport/", b"ERROR failed to connect")


class ProcessesFailedError(RuntimeError):
    """A process of a run failed, and has said why."""


class ProcessEndedError(OSError):
    """A process of a run was ended from outside, or could not reach the others."""


def launch(config: object, count: int) -> None:
    """Run a config by so many processes and wait for their end.

    Args:
        config: The composed config, Hydra's own part included.
        count: Number of processes.

    Raises:
        ProcessesFailedError: If one fails; it has said why.
        ProcessEndedError: If one is killed, or lost the others.
    """
    import torch
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # Here, so that it outlives each of them.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    # When one is killed, the others would leave a page of addresses. What gloo writes, it raises as
    # well; of NCCL, it may be all that is heard.
    quiet = "ERROR" if torch.cuda.is_available() else "FATAL"
    common = {
        **os.environ, LAUNCHED: str(os.getpid()), "TORCHELASTIC_RUN_ID": f"invertune-{os.getpid()}",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0", "PYTHONPATH": _path(),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", quiet),
    }  # fmt: skip
    told = pickle.dumps(config)
    with _sifted() as heard, _started(common, count, heard) as processes:
        for process in processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen below
                process.stdin.write(told)
                process.stdin.close()
        codes = _ended(processes)
    _check(codes, store)


def _path() -> str:
    return os.pathsep.join(filter(None, [str(CONF.parent), os.environ.get("PYTHONPATH", "")]))


@contextlib.contextmanager
def _sifted() -> Iterator[int]:
    """Pass on what libraries write to stderr by themselves, but not gloo's lost connections.

    Yields:
        The descriptor to write to. A process keeps the true one beside it for its own lines.
    """
    source, sink = os.pipe()
    sifting = threading.Thread(target=_sift, args=(source, _stderr()), daemon=True)
    sifting.start()
    try:
        yield sink
    finally:
        os.close(sink)
        sifting.join(_LAST_WORDS)  # ends with the last process that holds the sink


def _sift(source: int, sink: int) -> None:
    with open(source, "rb") as lines, open(sink, "wb", buffering=0) as heard:
        for line in lines:
            if all(part in line for part in _NOISE):
                continue
            with contextlib.suppress(OSError):  # nobody reads any more
                rest = line
                while rest:
                    rest = rest[heard.write(rest) :]


def _stderr() -> int:
    """Return a descriptor of stderr, or of nothing where it is closed and 2 is anything else's."""
    return os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else os.dup(2)


@contextlib.contextmanager
def _started(
    common: dict[str, str], count: int, heard: int
) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Start the processes, and let none of them outlive the block."""
    processes: list[subprocess.Popen[bytes]] = []
    kept = _stderr()
    try:
        for rank in range(count):
            own = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank), STDERR: str(kept)}
            command = [sys.executable, "-m", _MEMBER]
            # In a group of its own: an interrupt at the terminal is for this process alone.
            started = subprocess.Popen(
                command, env=own, stdin=subprocess.PIPE, stderr=heard, pass_fds=[kept],
                process_group=0,
            )  # fmt: skip
            processes.append(started)
        yield processes
    finally:
        os.close(kept)
        # What they write is complete or not there at any moment.
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _ended(processes: Sequence[subprocess.Popen[Any]]) -> list[int | None]:
    """Return the exit codes once all processes have ended, or one of them badly a while ago."""
    until = float("inf")
    while True:
        codes = [process.poll() for process in processes]
        if None not in codes or time.monotonic() > until:
            return codes
        if any(codes) and until == float("inf"):
            until = time.monotonic() + _GRACE
        time.sleep(_PAUSE)


def _check(codes: Sequence[int | None], store: Store) -> None:
    """Look at how the processes ended.

    Raises:
        ProcessesFailedError: If one fails; it has said why.
        ProcessEndedError: If one is killed, or lost the others.
    """
    killed = [(rank, -code) for rank, code in enumerate(codes) if code is not None and code < 0]
    if killed:
        rank, number = killed[0]
        raise ProcessEndedError(
            f"process {rank} of {len(codes)} was ended by signal {number} "
            f"({signal.Signals(number).name}); the same command goes on from here"
        )
    if not any(codes):
        return
    if not store.check([FAILED]) and store.check([LOST]):
        raise ProcessEndedError(store.get(LOST).decode())
    raise ProcessesFailedError
