from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.results.result import load_results, write_result
from experiments.tables.table import experiment_frame, table
from experiments.tables.variants import differences, variants

Made = Callable[..., dict[str, Any]]


@pytest.fixture
def runs(result: Made, tmp_path: Path) -> Path:
    for i, (seed, asr) in enumerate([(1, 0.8), (0, 0.6)]):
        write_result(tmp_path / f"run{i}", result(seed, asr=asr))
    write_result(tmp_path / "none", {**result(5, "none"), "identification": None})
    return tmp_path


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def _rows(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(_cells(lines[0]), _cells(line), strict=True)) for line in lines[2:]]


def test_markdown_has_runs_by_seed_then_their_mean(runs: Path) -> None:
    text = table(runs, "md")
    rule = text.splitlines()[1]
    assert set(rule) <= set("|-: ")
    assert len({len(line) for line in text.splitlines()}) == 1
    rows = _rows(text)
    assert [row["seed"] for row in rows] == ["0", "1", "mean of 2", "5"]
    before = [row["ASR before [95 %]"] for row in rows]
    # 0.7 with a standard error of 0.1 and t = 12.7: wider than all shares there are.
    assert before[:3] == ["60.0 [50.0, 70.0]", "80.0 [70.0, 90.0]", "70.0 [0.0, 100.0]"]
    assert [row["target found"] for row in rows] == ["lemon (ok)", "lemon (ok)", "2 of 2 ok", "-"]
    assert rows[0]["seconds"] == "15"  # steps of a stage count once


def test_csv_has_shares(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(runs, "csv"))))
    assert float(rows[0]["asr_before"]) == 0.6
    assert float(rows[0]["asr_before_low"]) == 0.5
    assert rows[0]["data"] == "icons"


def test_latex_escapes_names(runs: Path) -> None:
    text = table(runs, "latex")
    assert r"rn50\_mini & badnet & mine & 0 &" in text
    assert text.count(r" \\") == 5


def test_missing_rates_are_dashes(result: Made, tmp_path: Path) -> None:
    control = result()
    for score in control["scores"].values():
        score["zero_shot"]["asr"] = None
        score["retrieval"] = None
    control["attack"]["target_label"] = None
    control["identification"]["correct"] = None
    write_result(tmp_path / "control", control)
    (row,) = _rows(table(tmp_path, "md"))
    assert row["ASR before [95 %]"] == row["R@1 after"] == "-"
    assert row["target found"] == "lemon"


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no valid result"):
        table(tmp_path, "md")
    with pytest.raises(ValueError, match="not a folder"):
        table(tmp_path / "nowhere", "md")
    with pytest.raises(ValueError, match="format is one of md, csv, latex, parquet, got 'xml'"):
        table(tmp_path, "xml")


def test_only_keeps_the_runs_that_meet_all_conditions(runs: Path) -> None:
    only = _rows(table(runs, "md", ["defense=mine", "seed=0"]))
    assert [row["seed"] for row in only] == ["0"]
    assert len(_rows(table(runs, "md", ["defense=mine,none"]))) == 4


@pytest.mark.parametrize(
    ("condition", "message"), [("attack=c", "choices: badnet"), ("color=red", "NAME one of")]
)
def test_a_condition_that_no_run_meets_lists_the_choices(
    runs: Path, condition: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        table(runs, "md", [condition])


def test_a_copied_run_counts_once(
    runs: Path, result: Made, caplog: pytest.LogCaptureFixture
) -> None:
    write_result(runs / "copy", result(0, asr=0.6))
    assert [row["seed"] for row in _rows(table(runs, "md"))] == ["0", "1", "mean of 2", "5"]
    assert "copies of runs are left out: 1" in caplog.text


# What tells runs apart.


def _config(seed: int, steps: float = 240, **more: Any) -> dict[str, Any]:
    return {
        "seed": seed,
        "device": f"cuda:{seed}",
        "runs_dir": f"runs{seed}",
        "evaluation": {"batch_size": 256 + seed},
        "data": {"seed": 0},
        "attack": {"trigger": {"seed": seed}},
        "defense": {"tune": {"steps": steps, "betas": [0.9, 0.98]}, **more},
    }


def test_seeds_and_what_follows_them_are_no_difference() -> None:
    seeds = [0, 1, 2]
    assert differences([_config(seed) for seed in seeds], seeds) == {}
    assert differences([_config(0, 240), _config(1, 240.0)], [0, 1]) == {}


def test_a_trigger_seed_that_was_set_is_a_difference() -> None:
    fixed = _config(2)
    fixed["attack"]["trigger"]["seed"] = 0
    found = differences([_config(1), fixed], [1, 2])
    assert found == {"attack.trigger.seed": [None, "0"]}


def test_values_in_lists_and_absent_ones_are_found() -> None:
    other = _config(0, clip=1.0)
    other["defense"]["tune"]["betas"] = [0.9, 0.95]
    found = differences([_config(0), other], [0, 0])
    assert found == {"defense.tune.betas.1": ["0.98", "0.95"], "defense.clip": ["absent", "1"]}


def test_many_differences_still_give_every_variant_a_name() -> None:
    configs = [{"defense": dict.fromkeys("abcdef", i)} for i in (7, 8, 9)]
    names = variants(configs, [0, 0, 0])
    assert len(set(names)) == 3
    assert names[0].startswith("1: defense.a=7, ")
    assert names[0].endswith("2 more")


def test_runs_that_differ_are_variants_and_never_one_mean(result: Made, tmp_path: Path) -> None:
    for seed, steps in [(0, 240), (1, 240), (2, 100)]:
        write_result(tmp_path / f"run{seed}", {**result(seed), "config": _config(seed, steps)})
    rows = _rows(table(tmp_path, "md"))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("defense.tune.steps=100", "2"),
        ("defense.tune.steps=240", "0"),
        ("defense.tune.steps=240", "1"),
        ("defense.tune.steps=240", "mean of 2"),
    ]


# Experiments.

DEFENSES = ("none", "invertune", "other")


def _sweep(folder: Path, preset: str, experiment: str, jobs: Sequence[dict[str, Any]]) -> None:
    """Write a sweep; its axes are the keys with more than one value."""
    values: dict[str, dict[str, None]] = {}
    for job in jobs:
        for override in job["overrides"]:
            key, _, value = override.partition("=")
            values.setdefault(key, {})[value] = None
    sweep = {
        "name": f"{preset}-00000000",
        "experiment": experiment,
        "created": "2026-01-01T00:00:00",
        "arguments": [f"experiment={preset}", "model=rn50_mini"],
        "axes": {key: list(own) for key, own in values.items() if len(own) > 1},
        "jobs": [{"stages": {}, **job} for job in jobs],
    }
    (folder / "sweeps").mkdir(exist_ok=True)
    path = folder / "sweeps" / f"{sweep['name']}.json"
    path.write_text(json.dumps(sweep), encoding="utf-8")


@pytest.fixture
def grid(result: Made, tmp_path: Path) -> Callable[..., Path]:
    """Return a folder with a sweep of one attack, three defenses and two seeds."""

    def make(change: Callable[[dict[str, Any]], None] = lambda _: None, left: int = 0) -> Path:
        jobs = []
        for i, (defense, seed) in enumerate((d, s) for d in DEFENSES for s in (0, 1)):
            made = {**result(seed, defense), "id": f"{i:08x}00000000", "config": _config(seed)}
            after = {"none": 0.9, "invertune": 0.01, "other": 0.0102}[defense]
            made["scores"]["purified"]["zero_shot"]["asr"]["value"] = after
            change(made)
            run = f"rn50_mini-badnet-{defense}-seed{seed}-{i:08x}"
            overrides = ["attack=badnet", f"defense={defense}", f"seed={seed}"]
            stages = {role: Path(way).name for role, way in made.get("stages", {}).items()}
            jobs.append({"overrides": overrides, "run": run, "id": made["id"], "stages": stages})
            if i < 6 - left:
                write_result(tmp_path / run, made)
        _sweep(tmp_path, "t1_classification", "T1", jobs)
        return tmp_path

    return make


def test_an_experiment_has_a_row_per_cell(grid: Callable[..., Path]) -> None:
    text = table(grid(), "md", experiment="T1")
    rows = _rows(text)
    assert [row["defense"] for row in rows] == list(DEFENSES)
    assert [row["seeds"] for row in rows] == ["2", "2", "2"]
    assert "left" not in text
    assert text == table(grid(), "md", experiment="t1_classification")


def test_the_best_defenses_as_printed_are_bold_and_none_is_not(grid: Callable[..., Path]) -> None:
    rows = _rows(table(grid(), "md", experiment="T1"))
    asr = [row["ASR after [95 %]"] for row in rows]
    assert asr == ["90.0 [90.0, 90.0]", "**1.0 [1.0, 1.0]**", "**1.0 [1.0, 1.0]**"]
    latex = table(grid(), "latex", experiment="T1")
    assert r"\textbf{1.0 [1.0, 1.0]}" in latex
    assert r"95 \%" in latex
    assert "**" not in table(grid(), "csv", experiment="T1")


def test_the_csv_of_an_experiment_has_shares_and_ends(grid: Callable[..., Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(table(grid(), "csv", experiment="T1"))))
    assert float(rows[1]["asr_after"]) == pytest.approx(0.01)
    assert float(rows[1]["asr_after_high"]) == pytest.approx(0.01)
    assert rows[1]["target"] == "lemon"


def test_only_limits_an_experiment(grid: Callable[..., Path]) -> None:
    text = table(grid(), "md", ["defense=none", "seed=1"], "T1")
    assert [(row["defense"], row["seeds"]) for row in _rows(text)] == [("none", "1")]
    with pytest.raises(ValueError, match="choices: badnet"):
        table(grid(), "md", ["attack=sig"], "T1")


def test_one_seed_has_the_interval_of_its_result(grid: Callable[..., Path]) -> None:
    (row,) = _rows(table(grid(), "md", ["defense=none", "seed=1"], "T1"))
    assert row["CA after [95 %]"] == "75.0 [65.0, 85.0]"


def test_gaps_are_shown_and_named_with_the_command_that_goes_on(
    grid: Callable[..., Path],
) -> None:
    folder = grid(left=3)
    failed = folder / "rn50_mini-badnet-other-seed1-00000005"
    failed.mkdir()
    (failed / "failure.txt").write_text("Traceback\nValueError: no\n", encoding="utf-8")
    text = table(folder, "md", experiment="T1")
    rows = _rows(text)
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


def test_a_result_of_other_stages_is_left_out(grid: Callable[..., Path]) -> None:
    folder = grid()
    path = next((folder / "sweeps").iterdir())
    path.write_text(path.read_text().replace('"stages": {}', '"stages": {"purify": "purify-1"}', 1))
    text = table(folder, "md", experiment="T1")
    assert _rows(text)[0]["seeds"] == "1 of 2"
    assert "  attack=badnet defense=none seed=0: outdated" in text.splitlines()


def test_csv_says_what_is_left_in_a_warning(
    grid: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    text = table(grid(left=1), "csv", experiment="T1")
    assert len(text.splitlines()) == 4
    assert "left: 1 of 6 runs" in caplog.text


def test_latex_says_what_is_left_in_comments(grid: Callable[..., Path]) -> None:
    text = table(grid(left=1), "latex", experiment="T1")
    assert "% left: 1 of 6 runs" in text.splitlines()


def test_seeds_of_a_row_that_differ_in_more_are_refused(grid: Callable[..., Path]) -> None:
    def change(made: dict[str, Any]) -> None:
        if made["defense"]["name"] == "other" and made["seed"] == 1:
            made["config"]["defense"]["tune"]["steps"] = 100

    with pytest.raises(ValueError, match=r"defense=other.*defense\.tune\.steps is 240 .* and 100"):
        table(grid(change), "md", experiment="T1")


def test_two_runs_of_one_cell_and_seed_are_refused(grid: Callable[..., Path], result: Made) -> None:
    folder = grid()
    again = {**result(0, "none"), "id": "f" * 16, "config": _config(0, 100)}
    run = "rn50_mini-badnet-none-seed0-ffffffff"
    write_result(folder / run, again)
    overrides = ["attack=badnet", "defense=none", "seed=0"]
    _sweep(folder, "more", "T1", [{"overrides": overrides, "run": run, "id": "f" * 16}])
    with pytest.raises(ValueError, match=r"no mean of runs .*steps is (240|100) .* and (240|100)"):
        table(folder, "md", experiment="T1")


def test_two_sweeps_of_other_models_are_rows_of_one_table(
    grid: Callable[..., Path], result: Made
) -> None:
    folder = grid()
    other = {**result(0, "none"), "id": "f" * 16, "config": _config(0)}
    other["model"]["name"] = "rn101_mini"
    run = "rn101_mini-badnet-none-seed0-ffffffff"
    write_result(folder / run, other)
    overrides = ["attack=badnet", "defense=none", "model=rn101_mini", "seed=0"]
    _sweep(folder, "more", "T1", [{"overrides": overrides, "run": run, "id": "f" * 16}])
    models = [row["model"] for row in _rows(table(folder, "md", experiment="T1"))]
    assert sorted(models) == ["rn101_mini", *["rn50_mini"] * 3]


def test_swept_keys_are_columns_by_their_last_part_and_in_order(
    result: Made, tmp_path: Path
) -> None:
    jobs = []
    for i, steps in enumerate(["1000", "60", "1e2"]):
        made = {**result(), "id": f"{i:016x}", "config": _config(0, float(steps))}
        write_result(tmp_path / f"run{i}", made)
        overrides = ["defense=mine", f"defense.tune.steps={steps}", "seed=0"]
        jobs.append({"overrides": overrides, "run": f"run{i}", "id": made["id"]})
    jobs.append({"overrides": ["defense=mine", "defense.tune.steps=240.0", "seed=0"],
                 "run": "run3", "id": "f" * 16})  # fmt: skip
    _sweep(tmp_path, "f4_steps", "F4", jobs)
    rows = _rows(table(tmp_path, "md", experiment="F4"))
    assert [row["steps"] for row in rows] == ["60", "100", "240", "1000"]
    assert [row["seeds"] for row in rows] == ["1", "1", "0 of 1", "1"]
    assert "**" not in table(tmp_path, "md", experiment="F4")  # one defense is not the best


def test_an_unknown_experiment_lists_the_ids(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"no experiment 'T9'; choices: .*T1 \(t1_classification"):
        table(runs, "md", experiment="T9")


def test_an_experiment_without_a_sweep_says_how_to_start_one(runs: Path) -> None:
    with pytest.raises(ValueError, match="invertune run experiment=t2_retrieval"):
        table(runs, "md", experiment="T2")


def test_the_frame_has_text_under_readable_titles(grid: Callable[..., Path]) -> None:
    from experiments.sweeps.sweep import load_sweeps

    folder = grid(left=1)
    frame, left = experiment_frame(load_results(folder), load_sweeps(folder), "T1", folder)
    assert frame["ASR after [95 %]"].iloc[1] == "**1.0 [1.0, 1.0]**"
    assert left[0] == "left: 1 of 6 runs"


# The paired test.


def _predict(
    folder: Path, labels: Sequence[int], clean: Sequence[int], triggered: Sequence[int]
) -> str:
    (folder / "stages").mkdir(exist_ok=True)
    stage = folder / "stages" / f"evaluate-{len(list((folder / 'stages').iterdir()))}"
    stage.mkdir()
    arrays = {"labels": labels, "clean": clean, "triggered": triggered}
    np.savez_compressed(
        stage / "predictions.npz",
        **{name: np.array(values, dtype=np.int32) for name, values in arrays.items()},
    )
    return f"stages/{stage.name}"


def test_p_pools_the_discordant_images_of_all_seeds(
    grid: Callable[..., Path], tmp_path: Path
) -> None:
    labels = [0, 0, 0, 2, 1]  # class 1 is the target

    def change(made: dict[str, Any]) -> None:
        if made["defense"]["name"] == "invertune":
            stage = _predict(tmp_path, labels, [0, 0, 0, 2, 1], [0, 0, 0, 1, -1])
        else:
            stage = _predict(tmp_path, labels, [0, 2, 2, 2, 1], [1, 1, 1, 0, -1])
        made["stages"] = {"evaluate/purified": stage}

    rows = list(csv.DictReader(io.StringIO(table(grid(change), "csv", experiment="T1"))))
    assert [row["p_ca"] for row in rows][1] == ""
    # Over two seeds InverTune alone is right 4 times to 0, hit 2 times to 6.
    assert float(rows[0]["p_ca"]) == pytest.approx(2 / 2**4)
    assert float(rows[2]["p_asr"]) == pytest.approx(2 * (1 + 8 + 28) / 2**8)


def test_other_test_images_are_not_compared(grid: Callable[..., Path], tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        labels = [0, 1] if made["defense"]["name"] == "invertune" else [1, 0]
        stage = _predict(tmp_path, labels, labels, [-1 if label else 0 for label in labels])
        made["stages"] = {"evaluate/purified": stage}

    rows = _rows(table(grid(change), "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["-", "-", "-"]


def test_damaged_predictions_are_named_and_left_out(
    grid: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "stages" / "evaluate").mkdir(parents=True)
    (tmp_path / "stages" / "evaluate" / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")

    def change(made: dict[str, Any]) -> None:
        made["stages"] = {"evaluate/purified": "stages/evaluate"}

    assert _rows(table(grid(change), "md", experiment="T1"))[0]["p ASR"] == "-"
    assert "predictions.npz is left out" in caplog.text


# All of everything.


def test_parquet_has_every_value_of_every_run(grid: Callable[..., Path]) -> None:
    def change(made: dict[str, Any]) -> None:
        made["config"]["data"]["classes"] = {"lemon": "a", "key": "b"}
        made["config"]["defense"]["clip"] = 1 if made["seed"] else "off"
        made["config"]["defense"]["large"] = 2**70

    folder = grid(change)
    path = table(folder, "parquet")
    assert path == str(folder / "results.parquet")
    rows = pd.read_parquet(path)
    assert len(rows) == 6
    first = rows[rows["run"] == "rn50_mini-badnet-none-seed0-00000000"].iloc[0]
    assert first["scores.purified.zero_shot.asr.value"] == 0.9
    assert first["sweeps"] == "t1_classification-00000000"
    assert first["config.defense.tune.steps"] == 240
    assert json.loads(first["config.data.classes"]) == {"lemon": "a", "key": "b"}
    assert set(rows["config.defense.clip"]) == {"off", "1"}
    assert rows["seed"].dtype == "Int64"
    assert not [name for name in folder.iterdir() if name.name.startswith(".")]


def test_parquet_takes_no_conditions(runs: Path) -> None:
    with pytest.raises(ValueError, match="leave out the conditions"):
        table(runs, "parquet", ["seed=0"])


def test_a_thousand_results_are_one_table(result: Made, tmp_path: Path) -> None:
    for i in range(1000):
        made = {**result(i % 10, f"d{i // 10}"), "id": f"{i:016x}", "config": _config(i % 10)}
        write_result(tmp_path / f"run{i}", made)
    rows = _rows(table(tmp_path, "md"))
    assert len(rows) == 1100
    assert sum(row["seed"] == "mean of 10" for row in rows) == 100
