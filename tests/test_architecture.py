"""Imports point one way, so a defender cannot see the attack even by mistake."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"attacks", "evaluation", "experiments", "invertune"}
MAY_IMPORT = {
    "attacks": {"invertune"},
    "evaluation": {"invertune"},
    "experiments": PACKAGES,
    "invertune": set(),
}


def imported(source: str, package: str) -> Iterator[str]:
    """Yield the first part of every module that some source of ``package`` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield package if node.level else (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_point_one_way(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        f"{module.relative_to(ROOT)} imports {name}"
        for module in modules
        for name in imported(module.read_text(encoding="utf-8"), package)
        if name in PACKAGES - allowed
    }
    assert not wrong


def test_no_form_of_import_is_overlooked() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n    from . import g\n"
    assert set(imported(source, "here")) == {"a", "c", "here"}


@pytest.mark.parametrize("package", ["attacks", "evaluation", "invertune"])
def test_no_module_is_found_by_its_name(package: str) -> None:
    """An import by a string could not be seen above; only trigger files name a class."""
    users = {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if "importlib" in imported(path.read_text(encoding="utf-8"), package)
    }
    assert users <= {"attacks/triggers/base.py"}
