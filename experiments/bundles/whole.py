"""Folders that are there whole or not at all, however the process that writes them ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_GRACE = 60.0  # seconds in which a process that lives may be about to lock its folder


@contextlib.contextmanager
def whole_folder(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write to, which becomes ``folder`` in one step at the end of the block.

    After an error, or a signal to end, nothing is left. A process that is killed leaves its folder
    to the next one that writes the same, which removes it.

    Args:
        folder: Must not hold anything.
        names: Of the files that are written.
    """
    folder = folder.resolve()
    missing = [place for place in folder.parents if not place.exists()]
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    with _ending():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead(folder, names)
            partial.mkdir()
            with _locked(partial):
                yield partial
                partial.rename(folder)
        except BaseException:
            _remove(partial, names)
            for place in missing:  # from the innermost
                with contextlib.suppress(OSError):
                    place.rmdir()
            raise


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Let a signal to end be an exception, so that what was begun is taken away."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # which gets no signals
        yield
        return
    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which the kernel takes back when its holder dies.

    Yields:
        Whether nobody else has it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:  # somebody has it, or the disk has no locks
            free = False
        yield free
    finally:
        os.close(handle)


def _remove_dead(folder: Path, names: Sequence[str]) -> None:
    """Remove what processes that are no more have left beside a folder."""
    for path in folder.parent.iterdir():
        # Of this folder alone: beside it may lie what looks alike and is somebody's.
        found = re.fullmatch(rf"\.{re.escape(folder.name)}\.(\d+)", path.name)
        if found is None or path.is_symlink() or not path.is_dir():
            continue
        with contextlib.suppress(OSError):
            if _is_dead(path, int(found[1])):
                _remove(path, names)


def _is_dead(partial: Path, process: int) -> bool:
    with _locked(partial) as free:
        old = time.time() - partial.stat().st_mtime > _GRACE
        # Numbers come again: one that is ours was another's, for our folder is not made yet.
        return free and (old or process == os.getpid() or not _lives(process))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _remove(partial: Path, names: Sequence[str]) -> None:
    """Remove a folder with files of these names; one that holds anything else stays."""
    with contextlib.suppress(OSError):
        paths = [*partial.iterdir()]
        own = {*names, *(f".{name}." for name in names)}
        # A file that is written in one step has, until then, the process's number behind its name.
        if all(re.sub(r"(?<=\.)\d+$", "", path.name) in own for path in paths):
            for path in paths:
                path.unlink()
            partial.rmdir()
