"""The readings of the house, on a checkout of a few lines."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "house.py"

RUN = '''"""What it is."""

from typing import TYPE_CHECKING, Any

import attacks.poison
from invertune import tune

if TYPE_CHECKING:
    from evaluation import rates


# Why it is there.
def shown(first: dict[str, Any], second: int, *rest: "Any") -> Any:
    """Return.

    # no comment
    """
    return tune  # noqa: RET504


def _hidden(value: Any) -> None: ...


class Public:
    def method(self, value: list[Any]) -> None:
        def inner(value: Any) -> None: ...
'''


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "attacks/__init__.py": "",
        "attacks/poison.py": "x = 1\n" * 301,
        "evaluation/__init__.py": "",
        "evaluation/rates.py": "x = 1  # why\n" * 251,
        "experiments/__init__.py": "",
        "experiments/stages/run.py": RUN,
        "invertune/__init__.py": "from invertune.tune import x\n",
        "invertune/tune.py": "x = 1\n",
        "tests/evaluation/test_rates.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_functions_are_measured_with_their_docstrings(house: ModuleType, checkout: Path) -> None:
    place = "experiments/stages/run.py"
    assert house.function_lengths(house.read_modules(checkout)) == [
        (1, f"{place}:21"), (1, f"{place}:26"), (2, f"{place}:25"), (6, f"{place}:13"),
    ]  # fmt: skip


def test_long_files_and_those_without_a_test(house: ModuleType, checkout: Path) -> None:
    modules = house.read_modules(checkout)
    assert [path for _, path in house.longer_than(modules, 250)] == [
        "attacks/poison.py",
        "evaluation/rates.py",
    ]
    assert house.longer_than(modules, 300) == [(301, "attacks/poison.py")]
    assert house.untested(checkout, modules) == [
        "attacks/poison.py", "experiments/stages/run.py", "invertune/tune.py",
    ]  # fmt: skip


def test_any_is_counted_by_signature_and_by_annotation(house: ModuleType, checkout: Path) -> None:
    modules = house.read_modules(checkout, ["experiments"])
    assert house.mentions_of_any(house.public_functions(modules)) == (2, 4)
    assert house.mentions_of_any(house.all_functions(modules)) == (4, 6)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("x = 1  # why\n", (1, 1)),
        ("# why\n# it is\n\nx = [\n    1,\n]\n", (2, 3)),
        ('"""# none."""\nx = 1  # noqa: E501\ny = "# none"\n', (0, 2)),
        ("def f():\n    '''Say.\n\n    # none\n    '''\n    return 1\n", (0, 2)),
        ("# fmt: skip\nx: int = 1  # type: ignore[a]\n", (0, 1)),
    ],
)
def test_comments_are_those_for_readers(
    house: ModuleType, text: str, counts: tuple[int, int]
) -> None:
    assert house.comment_and_code_lines(text) == counts


def test_arrows_leave_out_what_only_the_type_checker_reads(
    house: ModuleType, checkout: Path
) -> None:
    among, across = house.arrows(house.read_modules(checkout))
    assert among == {
        ("experiments.stages.run", "attacks.poison"),
        ("experiments.stages.run", "invertune.tune"),
        ("invertune", "invertune.tune"),
    }
    assert across == {("experiments/stages", "attacks"), ("experiments/stages", "invertune")}


def test_the_table_names_what_is_long(
    house: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert house.main([str(checkout)]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "largest 6 lines, experiments/stages/run.py:13" in shown
    assert "301 attacks/poison.py" in shown
    wiring = len(RUN.splitlines())
    assert f"share of wiring {wiring / (wiring + 301 + 251 + 1 + 1):.1%}" in shown


def test_another_folder_is_one_line(
    house: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert house.main([str(tmp_path)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {tmp_path} is no checkout of this project: it has no attacks")
    assert shown.count("\n") == 1
