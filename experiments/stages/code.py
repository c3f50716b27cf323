"""Which version of our code makes a stage, read from its files: nothing of it is imported.

``code.json`` lists every module that numbers depend on, with a version and what its file was when
somebody last said so. After an edit, ``python -m experiments.stages.code --keep`` says that numbers
are the same, ``--bump MODULE...`` that they are not; until then the module's hash stands for it.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from experiments.config import CONF
from experiments.files import replacing
from experiments.stages.source import Source, Sources

LOCK = Path(__file__).with_name("code.json")
# What they do is in no key by import: one says what to expect of an attack, the other builds what
# a file of an input names, whose own key holds the module that wrote it.
_APART = ("attacks.graft", "attacks.preflight")


class Locked(TypedDict):
    """A line of ``code.json``.

    Attributes:
        version: Counts the edits that changed numbers, from 1.
        file, tree, imports, faces: As `Source` has them.
    """

    version: int
    file: str
    tree: str
    imports: list[str]
    faces: dict[str, str]


class Code:
    """The code that is there, compared with the lock.

    Attributes:
        sources: The modules' files.
        lock: Module -> its line of ``code.json``.
    """

    def __init__(self, root: Path, lock: Mapping[str, Locked]) -> None:
        self.sources = Sources(root, {name: _source(line) for name, line in lock.items()})
        self.lock = lock
        self._reached: dict[str, frozenset[str]] = {}

    def versions(self, names: Iterable[str]) -> dict[str, int | str]:
        """Return what stands for the code of some classes or modules, and of all they import.

        Args:
            names: Dotted, as ``_target_`` has them.

        Returns:
            Module -> its version, or the hash of its tree where that is not the lock's. Modules of
            version 1 are left out: most keys stay short.
        """
        modules = {module for name in names for module in self._reach(self.sources.home(name))}
        found = {module: self._version(module) for module in sorted(modules)}
        return {module: version for module, version in found.items() if version != 1}

    def _version(self, module: str) -> int | str:
        line, tree = self.lock.get(module), self.sources.source(module).tree
        return tree if line is None or line["tree"] != tree else line["version"]

    def _reach(self, start: str | None) -> frozenset[str]:
        if start is None:
            return frozenset()
        if start not in self._reached:
            seen, left = set[str](), [start]
            while left:
                module = left.pop()
                if module not in seen and module not in _APART:
                    seen.add(module)
                    left += self.sources.source(module).imports
            self._reached[start] = frozenset(seen)
        return self._reached[start]

    def changed(self) -> list[str]:
        """Return the modules whose line is not current: edited, new, or gone."""
        there = self.sources.listed()
        return sorted(
            name
            for name in {*there, *self.lock}
            if name not in there
            or name not in self.lock
            or self.sources.source(name) != _source(self.lock[name])
        )

    def current(self, bumped: Sequence[str] = (), kept: bool = True) -> dict[str, Locked]:
        """Return a lock that is current.

        Args:
            bumped: Modules whose version rises.
            kept: Whether the other modules' edits change no number; else their lines stay.

        Raises:
            ValueError: If there is no such module.
        """
        there = self.sources.listed()
        for name in bumped:
            if name not in there:
                raise ValueError(f"no number depends on a module {name!r}; choices: {there}")
        lock = dict(self.lock) if not kept else {}
        for name in there if kept else bumped:
            source = self.sources.source(name)
            version = self.lock[name]["version"] if name in self.lock else 1
            lock[name] = Locked(
                version=version + (name in bumped), file=source.file, tree=source.tree,
                imports=list(source.imports), faces=dict(source.faces),
            )  # fmt: skip
        return lock


def _source(line: Locked) -> Source:
    return Source(line["file"], line["tree"], tuple(line["imports"]), line["faces"])


def read_lock(path: Path = LOCK) -> dict[str, Locked]:
    """Return the lock; empty if there is none."""
    if not path.is_file():
        return {}
    lock: dict[str, Locked] = json.loads(path.read_text(encoding="utf-8"))
    return lock


def write_lock(lock: Mapping[str, Locked], path: Path = LOCK) -> None:
    """Write the lock with a line for each module, so that branches merge."""
    lines = (f"{json.dumps(name)}: {json.dumps(lock[name])}" for name in sorted(lock))
    with replacing(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@functools.cache
def installed() -> Code:
    """Return the code of this installation."""
    return Code(CONF.parent, read_lock())


def main(argv: Sequence[str] | None = None) -> int:
    """Say which modules were edited, or that numbers are the same, or which ones changed them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.stages.code", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="edits changed no number")
    choice.add_argument("--bump", nargs="+", metavar="MODULE", help="edits of these changed some")
    arguments = parser.parse_args(argv)
    code = installed()
    if arguments.keep or arguments.bump:
        write_lock(code.current(arguments.bump or (), kept=arguments.keep))
        code = Code(CONF.parent, read_lock())
    changed = code.changed()
    print("\n".join(changed) or f"{LOCK.name} is current")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
