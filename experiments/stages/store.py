"""Finished work on disk: one folder per stage, named by the hash of all that decides its content.

A folder gets its final name by one atomic rename, after its files and a manifest of their hashes
are on the disk. Whatever carries the final name is therefore complete, and a process that is
killed at any moment leaves nothing but a ``.partial-`` folder.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.stages.emptying import bring_back, clear, remove, set_aside
from experiments.stages.keys import StageKey
from experiments.stages.locks import held
from experiments.stages.manifest import (
    MANIFEST,
    Manifest,
    fault,
    read_manifest,
    sync,
    write_manifest,
)
from experiments.stages.system import forget_peak_memory

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class StageFolder:
    """A complete stage.

    Attributes:
        key: What it was made from.
        path: Its folder; None for a stage that leaves no files.
        manifest: What `StageStore` noted when it was made.
    """

    key: StageKey
    path: Path | None = None
    manifest: Manifest = field(default_factory=Manifest)

    def file(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises:
            ValueError: If the stage left no files.
        """
        if self.path is None:
            raise ValueError(f"stage {self.key.name} left no files, so no {name}")
        return self.path / name

    @property
    def folder(self) -> Path:
        """Its folder.

        Raises:
            ValueError: If the stage left no files.
        """
        return self.file("")

    def has(self, name: str) -> bool:
        """Return whether the stage left this file."""
        return name in self.manifest.get("files", {})

    def json(self, name: str) -> Any:
        """Return the content of one of its JSON files."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))


class StageStore:
    """The stages below one folder of runs.

    Attributes:
        root: Folder of the stages.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.root = runs_dir / "stages"

    def has(self, key: StageKey) -> bool:
        """Return whether the stage is complete, without a look into its files."""
        return (self.root / key.folder_name / MANIFEST).is_file()

    def check_writable(self) -> None:
        """Create the folder and a file in it.

        Raises:
            OSError: If that is not possible.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        probe = self.root / f".probe-{os.getpid()}"
        probe.write_bytes(b"invertune")
        probe.unlink()

    def find(self, key: StageKey) -> StageFolder | None:
        """Return the stage if it is complete and every file has the hash that was noted.

        A damaged stage is named in a warning.
        """
        found, damage = self._look(key)
        if damage is not None:
            log.warning("stage %s is damaged: %s; it is made again", key.folder_name, damage)
        return found

    def _look(self, key: StageKey) -> tuple[StageFolder | None, str | None]:
        """Return the stage, or what is damaged; neither where there is none."""
        folder = self.root / key.folder_name
        if not folder.exists():
            return None, None
        try:
            manifest = read_manifest(folder)
        except (OSError, ValueError, TypeError, KeyError) as error:
            return None, f"{MANIFEST} cannot be read ({type(error).__name__})"
        for name, noted in manifest["files"].items():
            found = fault(folder / name, noted)
            if found is not None:
                return None, f"{name} {found}"
        return StageFolder(key, folder, manifest), None

    def make(self, key: StageKey, produce: Callable[[Path], None]) -> StageFolder:
        """Let ``produce`` write the stage's files into a folder, then complete it.

        The folder may hold ``checkpoint.pt`` of an interrupted attempt, which ``produce`` can go
        on from; it is not kept in the complete stage.

        Raises:
            OSError: If the disk is full or refuses to be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        set_aside(self.root / key.folder_name)
        partial = self.root / f".partial-{key.folder_name}"
        clear(partial, CHECKPOINT)
        partial.mkdir(exist_ok=True)
        resumed = (partial / CHECKPOINT).exists()
        forget_peak_memory()
        started = time.perf_counter()
        try:
            produce(partial)
            (partial / CHECKPOINT).unlink(missing_ok=True)
            seconds = time.perf_counter() - started
            write_manifest(partial, key, seconds, resumed)
            return self._complete(key, partial)
        except BaseException as error:
            clear(partial, CHECKPOINT)
            full = _disk_error(error, self.root)
            if full is not None:
                raise full from error
            raise

    def obtain(self, key: StageKey, produce: Callable[[Path], None]) -> StageFolder:
        """Return the stage, made now if it was not there, or waited for if another makes it."""
        found = self.find(key)
        if found is None:
            with held(self.runs_dir, key.folder_name):
                found, _ = self._look(key)  # another process may have made it meanwhile
                if found is None:
                    return self.make(key, produce)
        log.info("%s: kept from before (%s)", key.name, key.folder_name)
        return found

    def _complete(self, key: StageKey, partial: Path) -> StageFolder:
        folder = self.root / key.folder_name
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            remove(partial)  # another process was faster; its folder holds the same
        sync(self.root)
        found = self.find(key)
        if found is None:
            raise OSError(errno.EIO, "the disk does not keep what was written", str(folder))
        bring_back(folder)
        log.info("%s: %.1f s (%s)", key.name, found.manifest["seconds"], key.folder_name)
        return found


def _disk_error(error: BaseException, root: Path) -> OSError | None:
    """Return what the disk said where a library hid it in an exception of its own."""
    text = str(error)
    if isinstance(error, OSError) or not isinstance(error, Exception):
        return None
    if "No space left" in text or "os error 28" in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
    if "os error" in text or "PytorchStreamWriter" in text:
        free = shutil.disk_usage(root).free
        code = errno.ENOSPC if free < _BLOCK else errno.EIO
        return OSError(code, os.strerror(code), str(root))
    return None
