"""Locks between processes: one makes a stage or a run, the others wait for it.

The kernel drops a lock when its holder dies, so that no lock is ever stale; a note beside it says
who holds it, or who died with it. File systems without such locks get lock files instead, which
the library breaks when their process is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from experiments.files import read_json, replacing

log = logging.getLogger(__name__)

FOLDER = ".locks"


@contextlib.contextmanager
def held(runs_dir: Path, name: str) -> Iterator[None]:
    """Hold the lock of a stage or a run, after whoever holds it now.

    Raises:
        OSError: If the folder of runs cannot be written.
    """
    folder = runs_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{name}.json"
    lock = _acquire(folder / f"{name}.lock", name, note)
    try:
        left = _read(note)
        if left:
            log.warning("%s: %s ended without finishing it; it goes on from there", name, left)
        _write(note)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        lock.release()


def _acquire(path: Path, name: str, note: Path) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except NotImplementedError:  # the file system has no locks
        lock = SoftFileLock(path)
        lock.acquire()
    except Timeout:
        log.info("%s: waiting for %s", name, _read(note) or "another process")
        lock.acquire()
    return lock


def is_held(runs_dir: Path, name: str) -> bool:
    """Return whether a living process holds the lock."""
    path = runs_dir / FOLDER / f"{name}.lock"
    if not path.exists():
        return False
    probe: BaseFileLock = FileLock(path)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return True
    except (NotImplementedError, OSError):
        return bool(_read(path.with_suffix(".json")))
    probe.release()
    return False


def holder(runs_dir: Path, name: str) -> str:
    """Return who holds the lock, in words; empty if nobody says so."""
    return _read(runs_dir / FOLDER / f"{name}.json")


def _write(note: Path) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    plain = {"pid": os.getpid(), "host": platform.node(), "since": since}
    with replacing(note) as partial:
        partial.write_text(json.dumps(plain) + "\n", encoding="utf-8")


def _read(note: Path) -> str:
    try:
        plain = read_json(note)
        return f"process {plain['pid']} on {plain['host']} (since {plain['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
