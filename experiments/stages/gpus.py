"""GPUs of their own for each run, where several run at once on one machine."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

_PAUSE = 1.0


def lease_folder() -> Path:
    """Return where the leases of this machine's GPUs are: they are not the runs' but its own."""
    return Path(tempfile.gettempdir()) / f"invertune-gpus-{os.getuid()}"


@contextlib.contextmanager
def leased(names: Sequence[str], folder: Path | None = None) -> Iterator[int]:
    """Hold one GPU until the end of the block, after a wait if all are taken; yield its index.

    Args:
        names: Of the GPUs that this process sees, such as their UUIDs.
        folder: Of the leases; the machine's if None.

    Raises:
        ValueError: If there is no GPU.
    """
    with leased_together(names, 1, folder) as (index,):
        yield index


@contextlib.contextmanager
def leased_together(
    names: Sequence[str], count: int, folder: Path | None = None
) -> Iterator[list[int]]:
    """Hold so many GPUs until the end of the block, all of them or none; yield their indices.

    Raises:
        ValueError: If there are not as many.
    """
    if not names:
        raise ValueError("there is no GPU to lease")
    if count > len(names):
        raise ValueError(
            f"{count} processes on this machine need a GPU each, and it has {len(names)}; "
            "choices: fewer processes, or device=cpu"
        )
    folder = folder or lease_folder()
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"{name}.lock") for name in names]
    told = False
    while True:
        # One at a time: two runs that each hold a half would wait for each other.
        with FileLock(folder / "choosing.lock"):
            held = _free(locks, count)
        if held:
            break
        if not told:
            log.info(
                "%d of %d GPUs are needed and in use by other runs; waiting", count, len(locks)
            )
            told = True
        time.sleep(_PAUSE)
    try:
        yield held
    finally:
        for index in held:
            locks[index].release()


def _free(locks: Sequence[FileLock], count: int) -> list[int]:
    """Return the indices of so many locks, held now; none if there are not as many."""
    held: list[int] = []
    for index, lock in enumerate(locks):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        held.append(index)
        if len(held) == count:
            return held
    for index in held:
        locks[index].release()
    return []


def gpu_names() -> list[str]:
    """Return a name for each GPU that torch sees, the same in every process of the machine."""
    import torch

    found = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return [f"gpu-{getattr(gpu, 'uuid', i)}" for i, gpu in enumerate(found)]
