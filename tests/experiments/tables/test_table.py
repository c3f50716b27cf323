from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.results.result import write_result
from experiments.results.runs import load_runs
from experiments.tables.table import row, table, with_means

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


@pytest.fixture
def runs(result: Made, tmp_path: Path) -> Path:
    for i, (seed, asr) in enumerate([(1, 0.8), (0, 0.6)]):
        write_result(tmp_path / f"run{i}", result(seed, asr=asr))
    write_result(tmp_path / "none", {**result(5, "none"), "identification": None})
    return tmp_path


def test_markdown_has_runs_by_seed_then_their_mean(runs: Path, read: Read) -> None:
    text = table(runs, "md")
    rule = text.splitlines()[1]
    assert set(rule) <= set("|-: ")
    lines = text.splitlines()
    assert len({len(line) for line in lines[:-2]}) == 1
    assert lines[-1] == (
        "[95 %]: Student's t over the seeds; [95 %]w: Wilson's, over the images of all seeds "
        "together, the wider of the two; of one share: Wilson's"
    )
    rows = read(text)
    assert [row["seed"] for row in rows] == ["0", "1", "mean of 2", "5"]
    before = [row["ASR before [95 %]"] for row in rows]
    # 0.7 with a standard error of 0.1 and t = 12.7: wider than all shares there are.
    assert before[:3] == ["60.0 [50.0, 70.0]", "80.0 [70.0, 90.0]", "70.0 [0.0, 100.0]"]
    assert [row["target found"] for row in rows] == ["lemon (ok)", "lemon (ok)", "2 of 2 ok", "-"]
    assert rows[0]["seconds"] == "15"  # steps of a stage count once


def test_the_mean_of_the_time_is_no_share(runs: Path, result: Made, read: Read) -> None:
    slow = {**result(2), "seconds": {"implant": 45.0}}
    write_result(runs / "slow", slow)
    rows = read(table(runs, "md", ["defense=mine"]))
    assert [row["seconds"] for row in rows] == ["15", "15", "45", "25"]


def test_csv_has_shares(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(runs, "csv"))))
    assert float(rows[0]["asr_before"]) == 0.6
    assert float(rows[0]["asr_before_low"]) == 0.5
    assert rows[0]["data"] == "icons"


def test_latex_escapes_names(runs: Path) -> None:
    text = table(runs, "latex")
    assert r"rn50\_mini & badnet & mine & 0 &" in text
    assert text.count(r" \\") == 5


def test_missing_rates_are_dashes(result: Made, tmp_path: Path, read: Read) -> None:
    control = result()
    for score in control["scores"].values():
        score["zero_shot"]["asr"] = None
        score["retrieval"] = None
    control["attack"]["target_label"] = None
    control["identification"]["correct"] = None
    write_result(tmp_path / "control", control)
    (row,) = read(table(tmp_path, "md"))
    assert row["ASR before [95 %]"] == row["R@1 after"] == "-"
    assert row["target found"] == "lemon"


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no valid result"):
        table(tmp_path, "md")
    with pytest.raises(ValueError, match="not a folder"):
        table(tmp_path / "nowhere", "md")
    with pytest.raises(ValueError, match="format is one of md, csv, latex, parquet, got 'xml'"):
        table(tmp_path, "xml")


def test_a_copied_run_counts_once(
    runs: Path,
    result: Made,
    caplog: pytest.LogCaptureFixture,
    read: Read,
) -> None:
    write_result(runs / "copy", result(0, asr=0.6))
    assert [row["seed"] for row in read(table(runs, "md"))] == ["0", "1", "mean of 2", "5"]
    assert "copies of runs are left out: 1" in caplog.text


def test_only_keeps_the_runs_that_meet_all_conditions(runs: Path, read: Read) -> None:
    only = read(table(runs, "md", ["defense=mine", "seed=0"]))
    assert [row["seed"] for row in only] == ["0"]
    assert len(read(table(runs, "md", ["defense=mine,none"]))) == 4


def test_runs_that_differ_are_variants_and_never_one_mean(
    result: Made, config: Made, tmp_path: Path, read: Read
) -> None:
    for seed, steps in [(0, 240), (1, 240), (2, 100)]:
        write_result(tmp_path / f"run{seed}", {**result(seed), "config": config(seed, steps)})
    rows = read(table(tmp_path, "md"))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("-", "0"),
        ("-", "1"),
        ("-", "mean of 2"),
        ("steps=100", "2"),
    ]


def test_a_thousand_results_are_one_table(
    result: Made, config: Made, tmp_path: Path, read: Read
) -> None:
    for i in range(1000):
        made = {**result(i % 10, f"d{i // 10}"), "id": f"{i:016x}", "config": config(i % 10)}
        write_result(tmp_path / f"run{i}", made)
    rows = read(table(tmp_path, "md"))
    assert len(rows) == 1100
    assert sum(row["seed"] == "mean of 10" for row in rows) == 100


def test_csv_says_what_is_left_in_a_warning(grid: Folder, caplog: pytest.LogCaptureFixture) -> None:
    text = table(grid(left=1), "csv", experiment="T1")
    assert len(text.splitlines()) == 4
    assert "left: 1 of 6 runs" in caplog.text


def test_latex_says_what_is_left_in_comments(grid: Folder) -> None:
    text = table(grid(left=1), "latex", experiment="T1")
    assert "% left: 1 of 6 runs" in text.splitlines()


def test_markdown_says_what_is_left_below(grid: Folder) -> None:
    assert "left: 1 of 6 runs" in table(grid(left=1), "md", experiment="T1").splitlines()


def test_parquet_takes_no_conditions(runs: Path) -> None:
    with pytest.raises(ValueError, match="leave out the conditions"):
        table(runs, "parquet", ["seed=0"])


def test_every_row_has_a_cell_per_column(runs: Path) -> None:
    grid = with_means([(row(run), run) for run in load_runs(runs)])
    assert {len(line) for line in grid.rows} == {len(grid.columns)}
    mean = dict(zip([column.name for column in grid.columns], grid.rows[2], strict=True))
    assert mean["seed"] == "mean of 2"
    assert isinstance(mean["ca_after"], Estimate)
    assert mean["ca_after"].value == pytest.approx(0.75)
