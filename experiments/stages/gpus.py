"""One GPU for each run, where several run at once on one machine."""

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
    if not names:
        raise ValueError("there is no GPU to lease")
    folder = folder or lease_folder()
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"{name}.lock") for name in names]
    told = False
    while True:
        for index, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield index
            finally:
                lock.release()
            return
        if not told:
            log.info("all %d GPUs are in use by other runs; waiting", len(locks))
            told = True
        time.sleep(_PAUSE)


def gpu_names() -> list[str]:
    """Return a name for each GPU that torch sees, the same in every process of the machine."""
    import torch

    found = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return [f"gpu-{getattr(gpu, 'uuid', i)}" for i, gpu in enumerate(found)]
