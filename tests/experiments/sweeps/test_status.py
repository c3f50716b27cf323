from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.result import write_result
from experiments.sweeps.failures import record_failure
from experiments.sweeps.status import status
from experiments.sweeps.sweep import Job, Sweep, save_sweep


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


def test_what_a_plan_says_hides_nothing(tmp_path: Path) -> None:
    job = Job(["seed=0\nevil: 3 done", "note=\x1b[2J"], "run", "0" * 16, {"implant": "implant-1"})
    save_sweep(tmp_path, Sweep("s-1", "T\x1b1", "2026", {"a.b\n": ["1", "2"]}, [job], []))
    lines = status(tmp_path).split("\n")
    assert all(line.isprintable() for line in lines)
    assert r"  left: seed=0\nevil: 3 done note=\x1b[2J" in lines


def test_a_result_that_is_none_is_no_complete_run(
    tmp_path: Path, result: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    write_result(tmp_path / "good", result())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text("{")
    assert status(tmp_path) == "1 complete run of no sweep"
    assert "bad/result.json is left out" in caplog.text
    caplog.clear()
    save_sweep(tmp_path, Sweep("s-1", "T1", "2026", {}, [Job([], "bad", "0" * 16, {})], []))
    assert "1 runs: 0 done, 0 running, 0 failed, 1 left" in status(tmp_path)
    assert caplog.text.count("bad/result.json is left out") == 1
