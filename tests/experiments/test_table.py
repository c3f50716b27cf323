from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.result import write_result
from experiments.table import _select, table

Made = Callable[..., dict[str, Any]]


@pytest.fixture
def runs(result: Made, tmp_path: Path) -> Path:
    for i, (seed, asr) in enumerate([(1, 0.8), (0, 0.6)]):
        write_result(tmp_path / f"run{i}", result(seed, asr=asr))
    write_result(tmp_path / "none", {**result(5, "none"), "identification": None})
    return tmp_path


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_markdown_has_runs_by_seed_then_their_mean(runs: Path) -> None:
    head, rule, *lines = table(runs, "md").splitlines()
    assert set(rule) <= set("|-: ")
    title = _cells(head)
    rows = [dict(zip(title, _cells(line), strict=True)) for line in lines]
    assert [row["seed"] for row in rows] == ["0", "1", "mean of 2", "5"]
    before = [row["ASR before [95 %]"] for row in rows]
    assert before[:3] == ["60.0 [50.0, 70.0]", "80.0 [70.0, 90.0]", "70.0"]
    assert [row["target found"] for row in rows] == ["lemon (ok)", "lemon (ok)", "2 of 2 ok", "-"]
    assert rows[0]["seconds"] == "15"  # steps of a stage count once
    assert len({len(line) for line in lines}) == 1


def test_csv_has_shares(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(runs, "csv"))))
    assert float(rows[0]["asr_before"]) == 0.6
    assert float(rows[0]["asr_before_low"]) == 0.5


def test_latex_escapes_names(runs: Path) -> None:
    text = table(runs, "latex")
    assert r"rn50\_mini & badnet & mine & 0 &" in text
    assert text.count(r"\\") == 5


def test_missing_rates_are_dashes(result: Made, tmp_path: Path) -> None:
    control = result()
    for score in control["scores"].values():
        score["zero_shot"]["asr"] = None
        score["retrieval"] = None
    control["attack"]["target_label"] = None
    control["identification"]["correct"] = None
    write_result(tmp_path / "control", control)
    row = _cells(table(tmp_path, "md").splitlines()[2])
    assert row[7] == row[8] == "-"
    assert row[12] == "lemon"
    assert row[13] == "-"


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no valid result"):
        table(tmp_path, "md")
    with pytest.raises(ValueError, match="not a folder"):
        table(tmp_path / "nowhere", "md")


def test_only_keeps_the_runs_that_meet_all_conditions() -> None:
    runs = pd.DataFrame({"attack": ["a", "a", "b"], "seed": [0, 1, 0]})
    assert list(_select(runs, ["attack=a", "seed=0"]).index) == [0]
    assert list(_select(runs, ["attack=a,b"]).index) == [0, 1, 2]


@pytest.mark.parametrize(
    ("condition", "message"), [("attack=c", "choices: a, b"), ("color=red", "NAME one of")]
)
def test_a_condition_that_no_run_meets_lists_the_choices(condition: str, message: str) -> None:
    runs = pd.DataFrame({"attack": ["a", "b"], "seed": [0, 1]})
    with pytest.raises(ValueError, match=message):
        _select(runs, [condition])
