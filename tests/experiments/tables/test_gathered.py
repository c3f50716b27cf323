from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.result import write_result
from experiments.results.runs import load_runs
from experiments.tables.gathered import gathered_entries
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


def test_results_alone_give_the_table_that_their_sweep_gives(grid: Folder, read: Read) -> None:
    folder = grid()
    planned = read(table(folder, "md", experiment="T1"))
    shutil.rmtree(folder / "sweeps")
    gathered = {row["defense"]: row for row in read(table(folder, "md", experiment="t1"))}
    assert gathered == {row["defense"]: row for row in planned}
    assert table(folder, "md", experiment="t1_classification") == table(folder, "md", (), "T1")


def test_results_without_plans_can_be_chosen_from(grid: Folder, read: Read) -> None:
    folder = grid()
    shutil.rmtree(folder / "sweeps")
    only = ["defense=other,none", "seed=1"]
    rows = read(table(folder, "md", only, experiment="T1"))
    assert [(row["defense"], row["seeds"]) for row in rows] == [("none", "1"), ("other", "1")]


def test_an_unknown_experiment_is_said_without_plans_too(grid: Folder) -> None:
    folder = grid()
    shutil.rmtree(folder / "sweeps")
    with pytest.raises(ValueError, match="no experiment 'T9'; choices: "):
        table(folder, "md", experiment="T9")


def test_budgets_detectors_and_special_runs_are_rows_of_their_own(
    result: Made, tmp_path: Path
) -> None:
    configs: list[dict[str, Any]] = [
        {"budget": {"name": "equal"}, "attack": {"poison_rate": 0.1}},
        {"budget": {"name": "equal"}, "attack": {"poison_rate": 0.1}},
        {"budget": {"name": "equal"}, "attack": {"poison_rate": 0.01}},
        {"budget": {"name": "paper"}, "attack": {"poison_rate": 0.1}},
        {},
    ]
    for i, config in enumerate(configs):
        made = {**result(seed=i), "id": f"{i:016x}", "config": config}
        if i == 3:
            made["detection"] = {
                "name": "decree", "of": "model", "needs": "images", "clean_samples": 8, "knows": "",
                "score": 0.5, "threshold": 0.1, "flagged": True,
            }  # fmt: skip
        write_result(tmp_path / f"r{i}", made)
    runs = load_runs(tmp_path)
    entries = gathered_entries(runs, "T1")
    found = [
        (entry.labels["budget"], entry.labels["variant"], entry.labels["detector"])
        for entry in entries
    ]
    assert found == [
        ("equal", "", "none"),
        ("equal", "", "none"),
        ("equal", "poison_rate=0.01", "none"),
        ("paper", "", "decree"),
        ("", "", "none"),
    ]
    assert [entry.seed for entry in entries] == ["0", "1", "2", "3", "4"]
    alike = gathered_entries(runs[:2], "T1")
    assert set(alike[0].labels) == {"data", "model", "attack", "defense"}
