"""A whole run by two processes, against one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.results.content import Result
from experiments.results.runs import load_runs

Command = Callable[..., subprocess.CompletedProcess[str]]
# Of the small data, little is evaluated.
FEW = ["speed.precision=fp32", "data.sizes={pairs:96,clean:4,zero_shot:8,retrieval:4}"]


def _result(folder: Path) -> Result:
    (run,) = load_runs(folder)
    return run.result


def test_a_run_of_two_processes_is_that_of_one(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    ran = {
        count: invertune(*tiny_words, *FEW, f"processes={count}", f"runs_dir={count}")
        for count in (1, 2)
    }
    assert [done.returncode for done in ran.values()] == [0, 0], ran[2].stderr
    one, two = (_result(tmp_path / str(count)) for count in (1, 2))
    assert (one["id"], one["stages"]) == (two["id"], two["stages"])
    for role in ("pretrain", "implant"):
        folders = [tmp_path / str(count) / one["stages"][role] for count in (1, 2)]
        losses = [json.loads((folder / "losses.json").read_text()) for folder in folders]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        first, second = (load_file(folder / "weights.safetensors") for folder in folders)
        for name, weight in first.items():
            assert (weight - second[name]).float().norm() <= 2e-2 * weight.float().norm() + 1e-2
        names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert names[0] == names[1]
    # Each line once, of the first process.
    assert ran[2].stderr.count("implant:") == ran[1].stderr.count("implant:") == 1
    assert ran[2].stdout.splitlines()[-1] == ran[1].stdout.splitlines()[-1].replace("1/", "2/", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]

    again = invertune(*tiny_words, *FEW, "processes=2", "runs_dir=2")
    assert again.returncode == 0, again.stderr
    assert " s (" not in again.stderr  # nothing was made


def test_what_stops_processes_is_one_line(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    small = ["attack.recipe.batch_size=1", "runs_dir=wrong"]
    ran = invertune(*tiny_words, *FEW, "processes=2", *small)
    assert ran.returncode == 1
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error")]
    assert errors == ["error: implant: batch_size is at least the number of processes, 2, got 1"]
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.glob("wrong/stages/*"))
