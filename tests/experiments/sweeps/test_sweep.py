"""Sweeps of tiny runs: planned, resumed, failed, tried again, and told by status."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.sweeps.failures import FAILURE_FILE, failure_line, is_complete, record_failure
from experiments.sweeps.status import status
from experiments.sweeps.sweep import Job, Sweep, axes_of, load_sweeps, save_sweep, sweep_name

Command = Callable[..., subprocess.CompletedProcess[str]]
JOB = Job(["seed=0"], "a-run", "0123456789abcdef", {"implant": "implant-1"})
SWEEP = Sweep("sweep-1", None, "2026-01-01T00:00:00+00:00", {}, [JOB], ["seed=0"])


def test_axes_are_the_keys_of_several_values() -> None:
    combinations = [["a=1", "b=2", "+c.d=x"], ["a=1", "b=3", "+c.d=y"], ["a=1", "b=2", "+c.d=y"]]
    assert axes_of(combinations) == {"b": ["2", "3"], "c.d": ["x", "y"]}


def test_the_same_grid_has_the_same_name() -> None:
    assert sweep_name("t1", ["b", "a"]) == sweep_name("t1", ["a", "b"])
    assert sweep_name("t1", ["a"]) != sweep_name("t1", ["b"])
    assert sweep_name(None, ["a"]).startswith("sweep-")


def test_a_plan_is_read_back_and_keeps_its_birthday(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_sweep(tmp_path, SWEEP)
    path = save_sweep(tmp_path, Sweep(**{**vars(SWEEP), "created": "2027-01-01T00:00:00+00:00"}))
    assert load_sweeps(tmp_path) == [SWEEP]
    path.write_text('{"name": 3')
    assert load_sweeps(tmp_path) == []
    assert str(path) in caplog.text


def test_a_failure_is_a_traceback_and_a_last_line(tmp_path: Path) -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        record_failure(tmp_path / "run", error)
    text = (tmp_path / "run" / FAILURE_FILE).read_text()
    assert text.startswith("Traceback")
    assert "test_sweep.py" in text
    assert failure_line(tmp_path / "run").startswith("RuntimeError: two")


def test_status_without_anything_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder of runs"):
        status(tmp_path / "none")
    with pytest.raises(ValueError, match="neither sweeps nor runs"):
        status(tmp_path)


def test_status_counts_stages_and_estimates(tmp_path: Path) -> None:
    stages = [
        {"implant": "implant-1", "purify": "purify-1"},
        {"implant": "implant-1", "purify": "purify-2"},
        {"implant": "implant-2", "purify": "purify-3"},
    ]
    jobs = [Job([f"seed={i}"], f"run{i}", f"{i}" * 16, made) for i, made in enumerate(stages)]
    axes = {"attack": ["a", "b"], "defense": ["c"]}
    save_sweep(tmp_path, Sweep("s-1", "T1", "2026", axes, jobs, []))
    for folder, seconds in (("implant-1", 30), ("purify-1", 60), ("purify-2", 80)):
        path = tmp_path / "stages" / folder / "stage.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"seconds": seconds}))
    record_failure(tmp_path / "run1", ValueError("no luck"))
    text = status(tmp_path)
    assert "s-1 (T1): 3 runs = 2 attack x 1 defense: 0 done, 0 running, 1 failed, 2 left" in text
    assert "implant 1 of 2, purify 2 of 3; 3 of 5 in all" in text
    # Left are one implant of 30 s and one purify of 70 s on average.
    assert "2 min 50 s so far, about 1 min 40 s left" in text
    assert "failed: seed=1  ValueError: no luck" in text


def test_a_sweep_goes_on_after_a_failure_and_skips_what_is_there(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    # A learning rate of 1e30 makes the loss infinite: that run fails, the others do not mind.
    grid = ["-m", "attack.recipe.lr=1e-3,1e30", "seed=0,1"]
    first = invertune(*tiny_words, *grid)
    assert first.returncode == 1
    assert "2 of 4 runs failed" in first.stderr
    runs = tmp_path / "runs"
    (sweep,) = load_sweeps(runs)
    done = [is_complete(runs, job) for job in sweep.jobs]
    assert done == [True, True, False, False]
    assert sweep.axes == {"attack.recipe.lr": ["0.001", "1e+30"], "seed": ["0", "1"]}
    bad = runs / sweep.jobs[2].run
    assert "Traceback" in (bad / FAILURE_FILE).read_text()
    assert "the loss is" in failure_line(bad)
    told = invertune("status", "runs").stdout
    assert "2 done, 0 running, 2 failed, 0 left" in told
    assert "the loss is" in told

    again = invertune(*tiny_words, *grid)
    assert again.returncode == 1
    assert "2 complete, 2 failed before, 0 to do" in again.stderr
    retried = invertune(*tiny_words, *grid, "--retry-failed")
    assert "2 complete, 0 failed before, 2 to do" in retried.stderr
    assert retried.returncode == 1


def test_presets_are_sweeps_without_m(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    words = [word for word in tiny_words if not word.startswith(("attack=", "defense="))]
    small = ["attack=tiny", "seed=0", "defense=none"]
    ran = invertune(*words, "experiment=t1_classification", *small)
    assert ran.returncode == 0, ran.stderr
    (sweep,) = load_sweeps(tmp_path / "runs")
    assert sweep.experiment == "T1"
    assert sweep.name.startswith("t1_classification-")
    result = json.loads((tmp_path / "runs" / sweep.jobs[0].run / "result.json").read_text())
    assert "experiment" not in result["config"]
    assert {role: f"stages/{name}" for role, name in sweep.jobs[0].stages.items()} == (
        result["stages"]
    )


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers_give_the_same(
    invertune: Command, tiny_words: list[str], tmp_path: Path, launcher: str
) -> None:
    grid = ["-m", "seed=0,1"]
    small = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    ran = invertune(*tiny_words, *grid, f"hydra/launcher={launcher}", *small)
    assert ran.returncode == 0, ran.stderr
    (sweep,) = load_sweeps(tmp_path / "runs")
    assert all(is_complete(tmp_path / "runs", job) for job in sweep.jobs)
    told = invertune("status", "runs").stdout
    assert "2 done" in told


def _scores(folder: Path) -> dict[str, Any]:
    return {
        path.parent.name: json.loads(path.read_text())["scores"]
        for path in folder.glob("*/result.json")
    }


def test_two_sweeps_at_once_share_their_stages(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    import threading

    results: list[subprocess.CompletedProcess[str]] = []
    grid = ["-m", "seed=0,1"]
    threads = [
        threading.Thread(target=lambda: results.append(invertune(*tiny_words, *grid)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran.returncode for ran in results] == [0, 0], results[0].stderr + results[1].stderr
    (sweep,) = load_sweeps(tmp_path / "runs")
    folders = {name for job in sweep.jobs for name in job.stages.values()}
    made = [
        line.rsplit("(", 1)[1].rstrip(")")
        for ran in results
        for line in ran.stderr.splitlines()
        if " s (" in line
    ]
    assert sorted(made) == sorted(folders)  # each one once
    assert len(_scores(tmp_path / "runs")) == 2
