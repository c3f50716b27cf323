from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config import CONF
from experiments.stages.source import MAKERS, STAGES, Sources

FILES = {
    "attacks/__init__.py": "from attacks.one import One\n",
    "attacks/one.py": "from attacks.parts import Part\nimport torch\nclass One: ...\n",
    "attacks/parts/__init__.py": "from .part import Part as Part, helper\nfrom . import other\n",
    "attacks/parts/part.py": "class Part: ...\ndef helper(): ...\n",
    "attacks/parts/other.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from attacks.one import One\n"
        "def late():\n    from evaluation import measure\n"
    ),
    "evaluation/__init__.py": "",
    "evaluation/measure.py": "x = 1\n",
    "invertune/__init__.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from invertune.lazy import Lazy\n"
    ),
    "invertune/lazy.py": "class Lazy: ...\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("attacks.One", "attacks.one"),
        ("attacks.one.One", "attacks.one"),
        ("attacks.one.One.draw", "attacks.one"),
        ("attacks.parts.Part", "attacks.parts.part"),
        ("attacks.parts.other", "attacks.parts.other"),
        ("attacks.parts.Unknown", "attacks.parts"),
        ("invertune.Lazy", "invertune.lazy"),
        ("torch.nn.Linear", None),
        ("json.loads", None),
        ("nobody.knows", None),
        ("experiments.stages.store", None),
    ],
)
def test_a_name_is_at_home_where_it_is_defined(root: Path, name: str, module: str | None) -> None:
    assert Sources(root, {}).home(name) == module


def test_imports_are_the_modules_that_run(root: Path) -> None:
    sources = Sources(root, {})
    assert sources.source("attacks.one").imports == ("attacks.parts.part",)
    # Not what only type checkers see, but what a function imports.
    assert sources.source("attacks.parts.other").imports == ("evaluation.measure",)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("x = 1\n", True),
        ('"""A docstring."""\n\n\nx = 1  # why\n', True),
        ("x = (\n    1\n)\n", True),
        ("x = 2\n", False),
        ("x = 1.0\n", False),
        ("x = True\n", False),
        ("y = 1\n", False),
        ("x = 1\n'a string'\n", False),
    ],
)
def test_a_tree_is_what_runs(root: Path, text: str, same: bool) -> None:
    before = Sources(root, {}).source("evaluation.measure")
    (root / "evaluation" / "measure.py").write_text(text)
    after = Sources(root, {}).source("evaluation.measure")
    assert (after.tree == before.tree) == same
    assert (after.file == before.file) == (text == "x = 1\n")


def test_a_users_own_module_is_found_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "attack.py").write_text("import mine.helper\nraise RuntimeError\n")
    (tmp_path / "mine" / "helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = Sources(CONF.parent, {})
    assert sources.home("mine.attack.Attack") == "mine.attack"
    assert sources.source("mine.attack").imports == ("mine.helper",)


def test_of_the_wiring_the_makers_are_listed() -> None:
    listed = Sources(CONF.parent, {}).listed()
    assert {f"{STAGES}.{name}" for name in MAKERS} <= set(listed)
    assert f"{STAGES}.store" not in listed
    assert "attacks.attack" in listed
    # A stage that makes something is one of them.
    makers = {path.stem for path in (CONF.parent / "experiments" / "stages").glob("*.py")
              if "def _produce(" in path.read_text(encoding="utf-8")}  # fmt: skip
    assert makers <= set(MAKERS)
