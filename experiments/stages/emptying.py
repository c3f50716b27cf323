"""What is taken away when a stage is made anew: its own files, and nothing that others put there.

A link is taken away itself; what it leads to stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiments.stages.manifest import MANIFEST, read_manifest


def clear(partial: Path, kept: str) -> None:
    """Remove all but one file of an attempt, and the folder if nothing is left."""
    if not _is_folder(partial):
        partial.unlink(missing_ok=True)
        return
    for path in partial.iterdir():
        if path.name != kept or path.is_symlink():
            remove(path)
    if not any(partial.iterdir()):
        partial.rmdir()


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if _is_folder(path):
        shutil.rmtree(path)  # takes links within for what they are
    else:
        path.unlink()


def set_aside(folder: Path) -> None:
    """Give a damaged stage another name; its own is free at once, whatever interrupts what follows.

    `bring_back` takes from there what is not the stage's.
    """
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.rename(folder.with_name(f"{_aside(folder)}{os.getpid()}"))


def bring_back(folder: Path) -> None:
    """Put files that were in a stage and not of it into the new one, and remove the old ones.

    A file is of the stage if the old manifest or the new one lists it. What was set aside by a
    process that was killed is looked through as well.
    """
    new = _listed(folder)
    for old in sorted(folder.parent.glob(f"{_aside(folder)}*")):
        if not _is_folder(old):
            continue
        own = new | _listed(old)
        for path in [*_leaves(old)]:
            name = path.relative_to(old)
            if name.as_posix() in own:
                path.unlink()
            else:
                _move(path, folder / name)
        _remove_empty(old)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _aside(folder: Path) -> str:
    return f".trash-{folder.name}-"


def _listed(folder: Path) -> set[str]:
    try:
        files = set(read_manifest(folder)["files"])
    except (OSError, ValueError, TypeError, KeyError):
        files = set()
    return {*files, MANIFEST}


def _leaves(folder: Path) -> Iterator[Path]:
    """Yield files, and links whatever they lead to."""
    for path in folder.iterdir():
        if _is_folder(path):
            yield from _leaves(path)
        else:
            yield path


def _move(path: Path, target: Path) -> None:
    """Move a file to its place, or leave it where that is taken."""
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(target):
            path.rename(target)


def _remove_empty(folder: Path) -> None:
    for path in folder.iterdir():
        if _is_folder(path):
            _remove_empty(path)
    with contextlib.suppress(OSError):  # it is not
        folder.rmdir()
