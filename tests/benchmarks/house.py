"""Measure the house: lengths, wiring, tests, comments, ``Any`` and imports of the four packages.

``python tests/benchmarks/house.py [ROOT]``: ROOT is any checkout, this one if not given. Files are
read, never imported.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("attacks", "evaluation", "experiments", "invertune")
WIRING = "experiments"
LONG, TOO_LONG = 250, 300
_Function = ast.FunctionDef | ast.AsyncFunctionDef
# Comments that speak to tools, not to readers.
_PRAGMAS = ("type:", "noqa", "fmt:", "pragma:", "mypy:", "!")


@dataclass(frozen=True)
class Module:
    """One file of Python.

    Attributes:
        path: Relative to the checkout, with slashes.
        text: Its content.
        tree: The same, parsed.
    """

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())

    @property
    def name(self) -> str:
        """Dotted name; a package's ``__init__`` is the package."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        """Folder that the file lies in, with slashes."""
        return self.path.rpartition("/")[0]


def read_modules(root: Path, folders: Sequence[str] = PACKAGES) -> list[Module]:
    """Return the files of Python that are not empty, by path."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    return [
        Module(path.relative_to(root).as_posix(), text, ast.parse(text))
        for path, text in texts
        if text.strip()
    ]


def function_lengths(modules: Sequence[Module]) -> list[tuple[int, str]]:
    """Return (lines, place) of every function and method, sorted; docstrings count."""
    return sorted(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{module.path}:{node.lineno}")
        for module in modules
        for node in all_functions([module])
    )


def longer_than(modules: Sequence[Module], lines: int) -> list[tuple[int, str]]:
    """Return (lines, path) of the files with more lines, the longest first."""
    long = ((module.lines, module.path) for module in modules if module.lines > lines)
    return sorted(long, reverse=True)


def wiring_share(modules: Sequence[Module]) -> float:
    """Return the share of the wiring in all lines, in [0, 1]."""
    wiring = sum(module.lines for module in modules if module.path.startswith(f"{WIRING}/"))
    return wiring / sum(module.lines for module in modules)


def untested(root: Path, modules: Sequence[Module]) -> list[str]:
    """Return the paths of modules that have no test file of their own.

    A module's test lies at the same place below ``tests``, with ``test_`` before its name; an
    ``__init__`` that only hands on names needs none.
    """
    found = []
    for module in modules:
        folder, _, file = module.path.rpartition("/")
        if file == "__init__.py" and not _defines(module.tree):
            continue
        test = f"test_{file}" if file != "__init__.py" else "test_init.py"
        if not (root / "tests" / folder / test).is_file():
            found.append(module.path)
    return found


def _defines(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ClassDef | _Function)
        and getattr(node, "name", "") != "__getattr__"  # late imports
        for node in tree.body
    )


def comment_and_code_lines(text: str) -> tuple[int, int]:
    """Return the numbers of lines with a comment for readers, and of lines with code.

    Docstrings are neither; a comment behind code counts as both.
    """
    comments, code = set(), set()
    docstrings = _docstring_lines(ast.parse(text))
    skipped = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
               tokenize.ENDMARKER, tokenize.ENCODING}  # fmt: skip
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not token.string.lstrip("# ").startswith(_PRAGMAS):
                comments.add(token.start[0])
        elif token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code - docstrings)


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | _Function) and ast.get_docstring(node):
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def public_functions(modules: Sequence[Module]) -> list[_Function]:
    """Return the public functions, and the public methods of public classes."""
    return [function for module in modules for function in _public(module.tree.body)]


def all_functions(modules: Sequence[Module]) -> list[_Function]:
    """Return every function and method, inner ones included."""
    return [
        node for module in modules for node in ast.walk(module.tree) if isinstance(node, _Function)
    ]


def mentions_of_any(functions: Sequence[_Function]) -> tuple[int, int]:
    """Return how many signatures mention ``Any``, and in how many annotations.

    An annotation is a parameter's or a return's.
    """
    counts = [sum(map(_mentions_any, _annotations(function))) for function in functions]
    return sum(count > 0 for count in counts), sum(counts)


def _public(body: Sequence[ast.stmt]) -> Iterator[_Function]:
    for node in body:
        if isinstance(node, _Function | ast.ClassDef) and not _hidden(node.name):
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)
            else:
                yield node


def _hidden(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _annotations(function: _Function) -> Iterator[ast.expr]:
    given = function.args
    extra = [one for one in (given.vararg, given.kwarg) if one is not None]
    for argument in [*given.posonlyargs, *given.args, *given.kwonlyargs, *extra]:
        if argument.annotation is not None:
            yield argument.annotation
    if function.returns is not None:
        yield function.returns


def _mentions_any(annotation: ast.expr) -> bool:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _mentions_any(ast.parse(node.value, mode="eval").body):
                return True
        elif getattr(node, "id", getattr(node, "attr", None)) == "Any":
            return True
    return False


def arrows(modules: Sequence[Module]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the imports among modules and among rooms, each a set of (from, to).

    Late imports count; those for the type checker alone do not.
    """
    rooms = {module.name: module.room for module in modules}
    pairs = {
        (module.name, target)
        for module in modules
        for name in _imported(module.tree)
        if (target := _nearest(name, rooms)) is not None and target != module.name
    }
    across = {(rooms[start], rooms[end]) for start, end in pairs if rooms[start] != rooms[end]}
    return pairs, across


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imported(child)


def _nearest(name: str, known: dict[str, str]) -> str | None:
    """Return the module that a dotted name is in, None for one from elsewhere."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def measure(root: Path) -> str:
    """Return the readings of a checkout as a table, and the names behind them.

    Raises:
        ValueError: If a package is missing.
    """
    missing = [name for name in PACKAGES if not (root / name).is_dir()]
    if missing:
        raise ValueError(f"{root} is no checkout of this project: it has no {', '.join(missing)}")
    modules, tests = read_modules(root), read_modules(root, ["tests"])
    lengths = function_lengths(modules)
    sizes, (longest, place) = [lines for lines, _ in lengths], lengths[-1]
    long, alone = longer_than(modules, LONG), untested(root, modules)
    counted = [comment_and_code_lines(module.text) for module in modules]
    comments, code = (sum(column) for column in zip(*counted, strict=True))
    wiring = [module for module in modules if module.path.startswith(f"{WIRING}/")]
    signatures, annotations = mentions_of_any(public_functions(wiring))
    every_signature, every_annotation = mentions_of_any(all_functions(wiring))
    among, across = arrows(modules)
    rows = [
        ("files", f"{len(modules)}, {sum(module.lines for module in modules)} lines"),
        ("functions", f"{len(sizes)}"),
        ("  median", f"{statistics.median(sizes):g} lines"),
        ("  90 % have at most", f"{sizes[round(0.9 * (len(sizes) - 1))]} lines"),
        ("  largest", f"{longest} lines, {place}"),
        (f"files over {LONG} lines", f"{len(long)}"),
        (f"files over {TOO_LONG} lines", f"{len(longer_than(modules, TOO_LONG))}"),
        (f"test files over {LONG} lines", f"{len(longer_than(tests, LONG))}"),
        ("share of wiring", f"{wiring_share(modules):.1%}"),
        ("modules without a test", f"{len(alone)}"),
        ("comment lines", f"{comments} for {code} lines of code, {comments / code:.1%}, one in "
                          f"{code / max(1, comments):.0f}"),
        (f"Any in {WIRING}/", f"{annotations} annotations of {signatures} public signatures"),
        ("  private ones too", f"{every_annotation} annotations of {every_signature} signatures"),
        ("rooms", f"{len({module.room for module in modules})}"),
        ("arrows between rooms", f"{len(across)}"),
        ("arrows between modules", f"{len(among)}"),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows) + 2
    table = [f"{name:{width}}{value}" for name, value in rows]
    for title, names in (
        (f"files over {LONG} lines", [f"{lines:5} {path}" for lines, path in long]),
        ("modules without a test", alone),
    ):
        table += ["", f"{title}:", *(f"  {name}" for name in names or ["none"])]
    return "\n".join(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the readings of one checkout; exit code 1 if it is none."""
    parser = argparse.ArgumentParser(description="Measure the house.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[2],
                        help="a checkout; this one if not given")  # fmt: skip
    try:
        print(measure(parser.parse_args(argv).root))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
