"""glibc's memory allocator, set up for training."""

from __future__ import annotations

import os
import sys

# glibc returns large blocks to the system at once, and training asks for them again at each step:
# keeping them, in huge pages, makes it 1.4 times as fast.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
_TUNABLE = "glibc.malloc.hugetlb=1"
_GUARD = "INVERTUNE_ALLOCATOR"  # 1: done, 0: not wanted


def tune_allocator() -> None:
    """Start this command once more with glibc set up for training; Linux only.

    ``INVERTUNE_ALLOCATOR=0`` turns it off.
    """
    if not sys.platform.startswith("linux") or _GUARD in os.environ:
        return
    environment = {**_ALLOCATOR, **os.environ, _GUARD: "1"}
    tunables = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part]
    if not any(part.startswith("glibc.malloc.hugetlb=") for part in tunables):
        tunables.append(_TUNABLE)
    environment["GLIBC_TUNABLES"] = ":".join(tunables)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
