from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.result import write_result
from experiments.results.runs import load_runs
from experiments.sweeps.sweep import load_sweeps
from experiments.tables.methods import judged_runs, method_grid
from experiments.tables.table import table

Suspected = Callable[..., dict[str, Any]]
Read = Callable[[str], list[dict[str, str]]]


@pytest.fixture
def folder(suspected: Suspected, tmp_path: Path) -> Path:
    """Return a folder of four models, of which a detector takes one for what it is not."""
    models = ((0, True, 1e-8, 0.9), (1, True, 1e-4, 0.4), (2, False, 0.9, 0.6), (3, False, 1, 0.1))
    for model in models:
        write_result(tmp_path / f"run-{model[0]}", suspected(*model))
    return tmp_path


def test_a_row_is_a_method(folder: Path, read: Read) -> None:
    text = table(folder, "md", experiment="D1")
    rows = {row["method"]: row for row in read(text)}
    assert list(rows) == ["invertune: verdict", "invertune: step 1", "decree"]
    assert {row["backdoored models"] for row in rows.values()} == {"2"}
    decree = rows["decree"]
    assert decree["AUROC [95 %]"].startswith("75.0 [")
    assert decree["found at its threshold [95 %]"].startswith("50.0 [")
    assert decree["false alarms there [95 %]"].startswith("50.0 [")
    assert decree["false alarms where 95 % are found"] == "50.0"
    assert rows["invertune: step 1"]["false alarms there [95 %]"] == "-"
    assert text.endswith("of an AUROC: Newcombe's; of one share: Wilson's")


def test_conditions_hold_for_gathered_results_too(folder: Path, read: Read) -> None:
    rows = read(table(folder, "md", ["seed=0,2"], "d1_detectors"))
    assert [row["clean models"] for row in rows] == ["1"] * 3
    with pytest.raises(ValueError, match="no run has attack=sig; choices: badnet, none"):
        table(folder, "md", ["attack=sig"], "D1")


def test_of_a_folder_with_sweeps_only_those_of_the_experiment_are_judged(
    folder: Path, plan: Callable[..., Path], read: Read
) -> None:
    jobs = [
        {"overrides": [f"seed={i}"], "run": f"run-{i}", "id": f"{i:08x}",
         "stages": {"implant": f"implant-{i:016x}"}} for i in (0, 1, 2)
    ]  # fmt: skip
    plan("d1_detectors", "D1", jobs)
    runs, sweeps = load_runs(folder), load_sweeps(folder)
    assert [run.seed for run in judged_runs(runs, sweeps, "D1")] == [0, 1, 2]
    assert judged_runs(runs, sweeps, "T1") == []
    assert [row["clean models"] for row in read(table(folder, "md", experiment="D1"))] == ["1"] * 3


def test_nothing_that_judges_is_an_empty_table() -> None:
    assert method_grid([]).rows == []
