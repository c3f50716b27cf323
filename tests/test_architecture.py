"""What `lint-imports` cannot see: modules that are imported by a name in a string."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The reader of triggers, which names their classes, and the package's own late imports.
_KNOWN = {"attacks/triggers/base.py", "invertune/__init__.py", "invertune/clip/__init__.py"}


def _imports_by_name(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if "importlib" in {name.partition(".")[0] for name in names}:
            return True
        if isinstance(node, ast.Name) and node.id == "__import__":
            return True
    return False


@pytest.mark.parametrize("package", ["attacks", "evaluation", "invertune"])
def test_no_module_is_found_by_its_name(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules
        if _imports_by_name(path.read_text(encoding="utf-8"))
    }
    assert users <= _KNOWN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    from importlib import import_module\n", True),
        ("import importlib.util\n", True),
        ("__import__('attacks')\n", True),
        ("import a.b\nfrom c import d\nfrom . import e\n", False),
    ],
)
def test_no_form_of_such_an_import_is_overlooked(source: str, found: bool) -> None:
    assert _imports_by_name(source) is found
