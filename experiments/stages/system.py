"""The machine and the packages that a run used."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path

# Linux tells and forgets the peak of a process' resident memory here.
_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PACKAGES = ("invertune", "torch", "open_clip_torch", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    commit = _commit()
    return {
        **found,
        "python": platform.python_version(),
        **({} if commit is None else {"commit": commit}),
    }


def _commit() -> str | None:
    """Return the commit of this program, with a + if files were changed; None if unknown."""
    own = Path(__file__)
    git = ["git", "-C", str(own.parent)]
    try:
        # An installed copy may lie below someone else's repository.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", own.name],
            capture_output=True, check=True, timeout=10,
        )  # fmt: skip
        told = subprocess.run(
            [*git, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            capture_output=True, check=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def forget_peak_memory() -> None:
    """Let `peak_memory_mib` count from now on, where the system can; else it counts from before."""
    with contextlib.suppress(OSError):
        _FORGET.write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> float:
    """Return the most memory that this process, or its GPU allocator, has held.

    That is since `forget_peak_memory`; outside Linux, since the process began.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = _STATUS.read_text(encoding="ascii").split("VmHWM:")[1]
        peak = int(told.split()[0]) / 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak = max(peak, torch.cuda.max_memory_allocated() / 2**20)
    return round(peak, 1)
