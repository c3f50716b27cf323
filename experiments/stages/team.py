"""The processes of one run: the first leads it, the others help wherever it trains.

They are started by `experiments.launch`, or by torchrun, which leave in the environment who is who
and where they meet. Whatever takes long is waited for by looks at the store where they meet, never
inside a collective operation, which would run into its timeout.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]

    from invertune.training.distributed import Ranks

LAUNCHED = "INVERTUNE_LAUNCHED"  # by us, who see which process was killed: our number
FAILED, LOST = "failed", "lost"  # what a process says that failed, or that others left alone
_MARK = "TORCHELASTIC_RUN_ID"
_PAUSE = 0.2
_LATE = 5.0  # seconds until what a failing process says is known to the others
_ANSWER = timedelta(minutes=30)  # in a collective operation; a batch or a checkpoint takes less


def is_member() -> bool:
    """Return whether this process is one of several of a run."""
    return _MARK in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass(frozen=True)
class Team:
    """The processes of one run, seen by one of them.

    Attributes:
        rank, size: Which process of how many.
        local_rank, local_size: Which of how many on this machine.
        node: Which machine.
        store: Where they leave words for each other.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    node: int
    store: Store

    @classmethod
    def met(cls) -> Team | None:
        """Return the processes of this run as the environment has them; None for a single one."""
        if not is_member():
            return None
        from torch.distributed.rendezvous import rendezvous

        _watch_parent()  # without whom there is nobody to meet
        store, rank, size = next(rendezvous("env://", timeout=_ANSWER))
        local, node = os.environ["LOCAL_RANK"], os.environ.get("GROUP_RANK", "0")
        locals_ = os.environ.get("LOCAL_WORLD_SIZE", str(size))
        return cls(rank, size, int(local), int(locals_), int(node), store)

    @property
    def leads(self) -> bool:
        """Whether this process makes the run; it alone writes files."""
        return self.rank == 0

    def call(self, number: int, what: str) -> None:
        """Tell the others what comes next, as the first process."""
        self.store.set(f"call/{number}", what)

    def calls(self) -> Iterator[str]:
        """Yield what the first process calls for, in its order."""
        for number in itertools.count():
            yield self.wait_for(f"call/{number}")

    def wait_for(self, key: str) -> str:
        """Return a word that another process leaves, whenever it does.

        Raises:
            LostProcessError: If one of them failed.
        """
        from invertune.training.distributed import LostProcessError

        while not self._has(key):
            if self._has(FAILED):
                raise LostProcessError(self.store.get(FAILED).decode())
            time.sleep(_PAUSE)
        return self.store.get(key).decode()

    def _has(self, key: str) -> bool:
        from invertune.training.distributed import LostProcessError

        try:
            return self.store.check([key])
        except RuntimeError as error:  # who held the store is gone
            raise LostProcessError("the first process of this run ended") from error

    @property
    def ranks(self) -> Ranks:
        """The processes as a training takes them."""
        from invertune.training.distributed import Ranks

        return Ranks(self.rank, self.size)

    def connect(self, device: torch.device) -> None:
        """Let the processes train together; waits until all of them have called it.

        Raises:
            LostProcessError: If one of them ends before it is connected.
        """
        import torch.distributed as dist

        from invertune.training.distributed import heard

        if dist.is_initialized():
            return
        self.store.set(f"ready/{self.rank}", "")
        for rank in range(self.size):
            self.wait_for(f"ready/{rank}")
        with heard():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("group", self.store),  # type: ignore[attr-defined]
                rank=self.rank, world_size=self.size, timeout=_ANSWER,
            )  # fmt: skip

    def share_gpus(self, lease: Callable[[int], list[int]]) -> int:
        """Return the index of this process' GPU, of those that one process leases for a machine.

        Args:
            lease: Leases so many GPUs and returns their indices; may wait.
        """
        key = f"gpus/{self.node}"
        if self.local_rank == 0:
            self.store.set(key, json.dumps(lease(self.local_size)))
        return int(json.loads(self.wait_for(key))[self.local_rank])

    def fail(self, line: str) -> str | None:
        """Leave word of an error; return None, or what another process had said before."""
        own = f"process {self.rank}: {line}"
        try:
            first = self.store.compare_set(FAILED, "", own).decode()
        except RuntimeError:
            return None
        return None if first == own else first

    def lose(self, line: str) -> None:
        """Leave word that others are gone, for who launched the processes."""
        with contextlib.suppress(RuntimeError):
            self.store.set(LOST, line)

    def cause(self) -> str | None:
        """Return what a process said that failed, for those that only lost it."""
        until = time.monotonic() + _LATE
        while time.monotonic() < until:
            try:
                if self.store.check([FAILED]):
                    return self.store.get(FAILED).decode()
            except RuntimeError:
                return None
            time.sleep(_PAUSE)
        return None

    def hush(self) -> None:
        """Leave it to the first process to say how far the work is."""
        if not self.leads:
            from invertune.progress import REPORTER

            REPORTER.terminal = lambda: False
            logging.disable(logging.WARNING)

    def close(self) -> None:
        """Take leave of the others."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def _watch_parent() -> None:
    """End this process when the one that started it is gone, and nobody would stop it."""
    # It may be gone already where torch took long to import.
    parent = int(os.environ.get(LAUNCHED) or os.getppid())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
