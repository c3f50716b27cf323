"""The machine and the packages that a run used."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path

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


def peak_memory_mib() -> float:
    """Return the most memory that this process, or its GPU allocator, has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak = max(peak, torch.cuda.max_memory_allocated() / 2**20)
    return round(peak, 1)
