from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.result import write_result
from experiments.results.runs import load_runs
from experiments.sweeps.sweep import load_sweeps
from experiments.tables.entries import find_entries, find_sweeps, left_lines
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


def test_gaps_are_shown_and_named_with_the_command_that_goes_on(
    grid: Folder,
    read: Read,
) -> None:
    folder = grid(left=3)
    failed = folder / "rn50_mini-badnet-other-seed1-00000005"
    failed.mkdir()
    (failed / "failure.txt").write_text("Traceback\nValueError: no\n", encoding="utf-8")
    text = table(folder, "md", experiment="T1")
    rows = read(text)
    assert [row["seeds"] for row in rows] == ["2", "1 of 2", "0 of 2"]
    assert rows[2]["ASR after [95 %]"] == rows[2]["p CA"] == "-"
    *_, head, first, second, third, command = text.splitlines()
    assert head == "left: 3 of 6 runs"
    assert first == "  attack=badnet defense=invertune seed=1: not run"
    assert second == "  attack=badnet defense=other seed=0: not run"
    assert third == f"  attack=badnet defense=other seed=1: failed, ValueError: no  [{failed}]"
    assert command == (
        "go on: invertune run experiment=t1_classification model=rn50_mini "
        f"runs_dir={folder} --retry-failed"
    )


def test_a_result_of_other_stages_is_left_out(grid: Folder, read: Read) -> None:
    folder = grid()
    path = next((folder / "sweeps").iterdir())
    path.write_text(path.read_text().replace('"stages": {}', '"stages": {"purify": "purify-1"}', 1))
    text = table(folder, "md", experiment="T1")
    assert read(text)[0]["seeds"] == "1 of 2"
    assert "  attack=badnet defense=none seed=0: outdated" in text.splitlines()


def test_an_unknown_experiment_lists_the_ids(grid: Folder) -> None:
    with pytest.raises(ValueError, match=r"no experiment 'T9'; choices: .*T1 \(t1_classification"):
        table(grid(), "md", experiment="T9")


def test_an_experiment_without_a_sweep_says_how_to_start_one(grid: Folder) -> None:
    with pytest.raises(ValueError, match="invertune run experiment=t2_retrieval"):
        table(grid(), "md", experiment="T2")


def test_an_experiment_is_found_by_its_id_or_its_preset(grid: Folder) -> None:
    sweeps = load_sweeps(grid())
    assert find_sweeps(sweeps, "t1") == find_sweeps(sweeps, "t1_classification") == (sweeps, "T1")


def test_a_run_that_is_not_done_has_the_labels_of_its_overrides(
    result: Made, plan: Folder, tmp_path: Path
) -> None:
    words = [["defense=ablation/x", "attack.target_label=key", "defense.tune.steps=1e2"],
             ["defense=other", "attack.target_label='5'", "defense.tune.steps=240.0"]]  # fmt: skip
    path = plan("mine", "X1", [{"overrides": own, "run": f"r{i}", "id": f"{i:016x}"}
                               for i, own in enumerate(words)])  # fmt: skip
    assert json.loads(path.read_text())["axes"].keys() == {
        "defense", "attack.target_label", "defense.tune.steps",
    }  # fmt: skip
    first, second = find_entries(load_sweeps(tmp_path), [])
    # Of target and seed the short names mean something else.
    assert first.labels == {"data": "", "model": "", "attack": "", "target_label": "key",
                            "defense": "x", "steps": "100"}  # fmt: skip
    assert (second.labels["steps"], second.labels["target_label"]) == ("240", "'5'")
    assert (first.run, first.outdated) == (None, False)


def test_what_a_job_leaves_to_the_config_comes_from_its_sweep(
    result: Made, plan: Folder, tmp_path: Path
) -> None:
    write_result(tmp_path / "r0", {**result(), "id": "0" * 16})
    plan("mine", "X1", [{"overrides": [f"seed={i}"], "run": f"r{i}", "id": f"{i:016x}"}
                        for i in range(2)])  # fmt: skip
    _, missing = find_entries(load_sweeps(tmp_path), load_runs(tmp_path))
    assert missing.labels == {"data": "icons", "model": "rn50_mini", "attack": "badnet",
                              "defense": "mine"}  # fmt: skip
    assert left_lines([missing], tmp_path)[1] == "  seed=1: not run"


def test_nothing_is_left_of_what_is_done(grid: Folder) -> None:
    folder = grid()
    entries = find_entries(load_sweeps(folder), load_runs(folder))
    assert len(entries) == 6
    assert left_lines(entries, folder) == []


def test_a_group_that_is_swept_is_told_by_the_name_of_its_choice(
    result: Made, plan: Folder, tmp_path: Path
) -> None:
    made = result()
    config = {**made["config"], "budget": {"name": "paper", "clean_samples": 5120}}
    write_result(tmp_path / "r0", {**made, "id": "0" * 16, "config": config})
    plan("mine", "X1", [{"overrides": [f"budget={name}"], "run": f"r{i}", "id": f"{i:016x}"}
                        for i, name in enumerate(["paper", "equal"])])  # fmt: skip
    found = find_entries(load_sweeps(tmp_path), load_runs(tmp_path))
    assert [entry.labels["budget"] for entry in found] == ["paper", "equal"]
    assert [entry.run is None for entry in found] == [False, True]
