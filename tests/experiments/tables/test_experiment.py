from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.intervals import wilson
from evaluation.statistics import Estimate
from experiments.results.result import write_result
from experiments.results.runs import load_runs
from experiments.sweeps.sweep import load_sweeps
from experiments.tables.experiment import experiment_grid
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


def test_an_experiment_has_a_row_per_cell(grid: Folder, read: Read) -> None:
    text = table(grid(), "md", experiment="T1")
    rows = read(text)
    assert [row["defense"] for row in rows] == ["none", "invertune", "other"]
    assert [row["seeds"] for row in rows] == ["2", "2", "2"]
    assert "left" not in text
    assert text == table(grid(), "md", experiment="t1_classification")


def test_the_best_defenses_as_printed_are_bold_and_none_is_not(grid: Folder, read: Read) -> None:
    rows = read(table(grid(), "md", experiment="T1"))
    asr = [row["ASR after [95 %]"] for row in rows]
    # Wilson's of 180 and of 2 of 200 images: the two seeds are equal, which says nothing.
    assert asr == ["90.0 [85.1, 93.4]w", "**1.0 [0.3, 3.6]w**", "**1.0 [0.3, 3.6]w**"]
    latex = table(grid(), "latex", experiment="T1")
    assert r"\textbf{1.0 [0.3, 3.6]w}" in latex
    assert r"95 \%" in latex
    assert "**" not in table(grid(), "csv", experiment="T1")


def test_no_row_is_the_best_of_rows_with_other_data(grid: Folder) -> None:
    def change(made: dict[str, Any]) -> None:
        if made["defense"]["name"] == "other":
            made["config"]["data"]["turn"] = 90

    assert "**" in table(grid(), "md", experiment="T1")
    assert "**" not in table(grid(change), "md", experiment="T1")


def test_the_csv_of_an_experiment_has_shares_and_ends(grid: Folder) -> None:
    rows = list(csv.DictReader(io.StringIO(table(grid(), "csv", experiment="T1"))))
    assert float(rows[1]["asr_after"]) == pytest.approx(0.01)
    assert float(rows[1]["asr_after_high"]) == pytest.approx(wilson(2, 200)[1])
    assert rows[1]["asr_after_interval"] == "pooled Wilson"
    assert rows[1]["target"] == "lemon"


def test_only_limits_an_experiment(grid: Folder, read: Read) -> None:
    text = table(grid(), "md", ["defense=none", "seed=1"], "T1")
    assert [(row["defense"], row["seeds"]) for row in read(text)] == [("none", "1")]
    with pytest.raises(ValueError, match="choices: badnet"):
        table(grid(), "md", ["attack=sig"], "T1")


def test_one_seed_has_the_interval_of_its_result(grid: Folder, read: Read) -> None:
    (row,) = read(table(grid(), "md", ["defense=none", "seed=1"], "T1"))
    assert row["CA after [95 %]"] == "75.0 [65.0, 85.0]"


def test_seeds_of_a_row_that_differ_in_more_are_refused(grid: Folder) -> None:
    def change(made: dict[str, Any]) -> None:
        if made["defense"]["name"] == "other" and made["seed"] == 1:
            made["config"]["defense"]["tune"]["steps"] = 100

    with pytest.raises(ValueError, match=r"defense=other.*defense\.tune\.steps is 240 .* and 100"):
        table(grid(change), "md", experiment="T1")


def test_two_runs_of_one_cell_and_seed_are_refused(
    grid: Folder, result: Made, config: Made, plan: Folder
) -> None:
    folder = grid()
    again = {**result(0, "none"), "id": "f" * 16, "config": config(0, 100)}
    run = "rn50_mini-badnet-none-seed0-ffffffff"
    write_result(folder / run, again)
    overrides = ["attack=badnet", "defense=none", "seed=0"]
    plan("more", "T1", [{"overrides": overrides, "run": run, "id": "f" * 16}])
    with pytest.raises(ValueError, match=r"no mean of runs .*steps is (240|100) .* and (240|100)"):
        table(folder, "md", experiment="T1")


def test_two_sweeps_of_other_models_are_rows_of_one_table(
    grid: Folder,
    result: Made,
    config: Made,
    plan: Folder,
    read: Read,
) -> None:
    folder = grid()
    other = {**result(0, "none"), "id": "f" * 16, "config": config(0)}
    other["model"]["name"] = "rn101_mini"
    run = "rn101_mini-badnet-none-seed0-ffffffff"
    write_result(folder / run, other)
    overrides = ["attack=badnet", "defense=none", "model=rn101_mini", "seed=0"]
    plan("more", "T1", [{"overrides": overrides, "run": run, "id": "f" * 16}])
    models = [row["model"] for row in read(table(folder, "md", experiment="T1"))]
    assert sorted(models) == ["rn101_mini", *["rn50_mini"] * 3]


def test_swept_keys_are_columns_by_their_last_part_and_in_order(
    result: Made,
    config: Made,
    plan: Folder,
    tmp_path: Path,
    read: Read,
) -> None:
    jobs = []
    for i, steps in enumerate(["1000", "60", "1e2"]):
        made = {**result(), "id": f"{i:016x}", "config": config(0, float(steps))}
        write_result(tmp_path / f"run{i}", made)
        overrides = ["defense=mine", f"defense.tune.steps={steps}", "seed=0"]
        jobs.append({"overrides": overrides, "run": f"run{i}", "id": made["id"]})
    jobs.append({"overrides": ["defense=mine", "defense.tune.steps=240.0", "seed=0"],
                 "run": "run3", "id": "f" * 16})  # fmt: skip
    plan("f4_steps", "F4", jobs)
    rows = read(table(tmp_path, "md", experiment="F4"))
    assert [row["steps"] for row in rows] == ["60", "100", "240", "1000"]
    assert [row["seeds"] for row in rows] == ["1", "1", "0 of 1", "1"]
    assert "**" not in table(tmp_path, "md", experiment="F4")  # one defense is not the best


def test_the_grid_keeps_numbers_and_which_are_the_best(grid: Folder) -> None:
    folder = grid(left=1)
    made, entries = experiment_grid(load_runs(folder), load_sweeps(folder), "T1")
    names = [column.name for column in made.columns]
    asr = names.index("asr_after")
    low, high = wilson(2, 200)
    assert made.rows[1][asr] == Estimate(0.01, pytest.approx(low), pytest.approx(high))
    assert {row for row, column in made.best if column == asr} == {1, 2}
    assert [str(entry) for entry in entries if entry.run is None] == [
        "data=icons model=rn50_mini attack=badnet defense=other seed=1"
    ]


def test_a_yaml_that_is_wrong_is_said_before_anything_is_read(
    grid: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise ValueError("t1.yaml: experiment has no field 'colour'")

    monkeypatch.setattr("experiments.tables.experiment.layout_of", refuse)
    with pytest.raises(ValueError, match="no field 'colour'"):
        table(grid(), "md", experiment="T1")
