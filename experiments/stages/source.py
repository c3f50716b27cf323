"""Modules as text: where a name is defined, what a module imports, and whether its code changed."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import itertools
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("attacks", "evaluation", "invertune")
# Of the wiring, what builds parts and makes stages; all else only moves files.
STAGES = "experiments.stages"
MAKERS = ("artifacts", "detect", "evaluate", "implant", "inspect", "parts", "pretrain", "purify",
          "search", "trigger")  # fmt: skip
_DIGITS = 16
_PACKAGE = "__init__.py"
_LIBRARIES = ("site-packages", "dist-packages")
# Fields of a syntax tree that decide nothing.
_IDLE = ("kind", "type_comment", "type_ignores")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """What a module's file says.

    Attributes:
        file: Hash of the file.
        tree: Hash of its syntax tree, without docstrings and comments.
        imports: The modules of ours that it imports, but for types alone.
        faces: Of a package, name -> module that defines it.
    """

    file: str
    tree: str
    imports: tuple[str, ...]
    faces: Mapping[str, str]


class Sources:
    """Modules of this project and of its users, found below a folder or on Python's path.

    A file that is as it was when ``known`` was written is hashed, not parsed.

    Args:
        root: Folder that holds the packages.
        known: Module -> what was read of it before.
    """

    def __init__(self, root: Path, known: Mapping[str, Source]) -> None:
        self.root = root
        self._known = known
        self._read: dict[str, Source] = {}

    def listed(self) -> list[str]:
        """Return all modules that a stage of ours may depend on."""
        files = itertools.chain.from_iterable(
            (self.root / package).rglob("*.py") for package in PACKAGES
        )
        own = [".".join(path.relative_to(self.root).with_suffix("").parts) for path in files]
        makers = [f"{STAGES}.{name}" for name in MAKERS]
        return sorted([*(name.removesuffix(".__init__") for name in own), *makers])

    def home(self, name: str) -> str | None:
        """Return the module that defines a class or a function; None if it is not one of ours.

        Args:
            name: Dotted; also of a module.
        """
        parts = name.split(".")
        module = parts[0]
        path = self._path(module)
        if path is None:
            return None
        for part in parts[1:]:
            if path.name != _PACKAGE:
                break
            face = self.source(module).faces.get(part)
            if face is not None:
                return face
            inner = self._path(f"{module}.{part}")
            if inner is None:
                break
            module, path = f"{module}.{part}", inner
        return module if _counts(module) else None

    def source(self, module: str) -> Source:
        """Return what a module's file says."""
        if module not in self._read:
            path = self._path(module)
            content = path.read_bytes() if path is not None and path.is_file() else b""
            known, file = self._known.get(module), _digest(content)
            if known is None or known.file != file:
                known = self._parse(module, content, file)
            self._read[module] = known
        return self._read[module]

    def _parse(self, module: str, content: bytes, file: str) -> Source:
        tree = ast.parse(content)
        path = self._path(module)
        is_package = path is not None and path.name == _PACKAGE
        faces: dict[str, str] = {}
        self._read[module] = Source(file, "", (), faces)  # a package may name itself
        for node in ast.walk(tree) if is_package else ():
            if isinstance(node, ast.ImportFrom):
                faces |= self._faces(node, module)
        above = module if is_package else module.rpartition(".")[0]
        named = {self.home(name) for node in _running(tree) for name in _names(node, above)}
        imports = sorted(name for name in named if name is not None and name != module)
        return Source(file, _digest(repr(_plain(tree)).encode()), tuple(imports), faces)

    def _faces(self, node: ast.ImportFrom, package: str) -> dict[str, str]:
        base = _absolute(node, package)
        homes = ((alias, self.home(f"{base}.{alias.name}")) for alias in node.names)
        return {
            alias.asname or alias.name: home
            for alias, home in homes
            if home is not None and home != package
        }

    @functools.cache  # noqa: B019  (as long as the sources live)
    def _path(self, module: str) -> Path | None:
        first, *rest = module.split(".")
        if first in (*PACKAGES, STAGES.partition(".")[0]):
            place = self.root / first
        else:
            outside = _outside(first)
            if outside is None:
                return None
            place = outside
        place = place.joinpath(*rest)
        if place.is_dir():
            return place / _PACKAGE
        path = place.with_name(f"{place.name}.py")
        return path if path.is_file() else None


def _counts(module: str) -> bool:
    """Return whether numbers depend on a module: of the wiring, on the makers alone."""
    if module.partition(".")[0] != STAGES.partition(".")[0]:
        return True
    above, _, name = module.rpartition(".")
    return above == STAGES and name in MAKERS


@functools.cache
def _outside(name: str) -> Path | None:
    """Return a user's own package, or module without its suffix; None for a library's."""
    try:
        spec = importlib.util.find_spec(name)  # of a first name, this imports nothing
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    if not folders and not (spec.origin or "").endswith(".py"):
        return None
    place = Path(folders[0] if folders else str(spec.origin).removesuffix(".py"))
    library = any(part in _LIBRARIES for part in place.parts)
    return None if library or place.is_relative_to(sysconfig.get_path("stdlib")) else place


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, but for what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


def _names(node: ast.AST, package: str) -> list[str]:
    """Return the dotted names that a node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, package)
        return [base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names]
    return []


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")
    parts = above[: len(above) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _plain(value: object) -> object:
    """Return a syntax tree as nested lists that are the same in every version of Python."""
    if isinstance(value, ast.AST):
        fields = dict(ast.iter_fields(value))
        if isinstance(value, _DOCUMENTED) and ast.get_docstring(value, clean=False) is not None:
            fields["body"] = fields["body"][1:]
        kept = [(k, _plain(v)) for k, v in fields.items() if k not in _IDLE and v not in (None, [])]
        return [type(value).__name__, kept]
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
