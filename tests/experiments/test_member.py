"""A whole run by two processes, against one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.config import CONF
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


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CONF.parent),
            "INVERTUNE_ALLOCATOR": "0"}  # fmt: skip


def _rank_one(parent: int) -> int | None:
    """Return the second process that another one has started, once it runs Python."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            own = f"PPid:\t{parent}\n" in path.with_name("status").read_text()
            if own and b"\0RANK=1\0" in path.read_bytes():
                return int(path.parent.name)
        except OSError:
            continue
    return None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the process in /proc")
def test_a_process_that_is_killed_is_one_line_and_the_run_goes_on(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    words = [*tiny_words, *FEW, "processes=2"]
    command = [sys.executable, "-m", "experiments.cli", *words]
    run = subprocess.Popen(
        command, cwd=tmp_path, env=_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not list(tmp_path.glob("runs/stages/.partial-pretrain-*")):
        assert run.poll() is None
        time.sleep(0.05)
    second = _rank_one(run.pid)
    assert second is not None
    os.kill(second, signal.SIGKILL)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 1
    errors = [line for line in said.splitlines() if "error" in line or "Traceback" in line]
    assert errors == [
        "error: process 1 of 2 was ended by signal 9 (SIGKILL); the same command goes on from here"
    ]
    again = invertune(*words)
    assert again.returncode == 0, again.stderr


def test_torchrun_makes_a_run(tiny_words: list[str], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node=2", "-m", "experiments.run"]  # fmt: skip
    done = subprocess.run(
        [*torchrun, *tiny_words[1:], *FEW], cwd=tmp_path, env=_environment(), text=True,
        capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _result(tmp_path / "runs")["seed"] == 0
    assert done.stdout.count("result.json") == 1
    assert done.stderr.count("pretrain: ") == 1


def test_a_run_of_a_sweep_has_processes_of_its_own(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    done = invertune(*tiny_words, *FEW, "-m", "processes=2", "attack.recipe.lr=1e-3,1e30")
    assert done.returncode == 1
    assert "1 of 2 runs failed" in done.stderr
    assert _result(tmp_path / "runs")["attack"]["poisoned"] == 5
    assert "the loss is" in invertune("status", "runs").stdout  # the first process left word
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: implant")]
    assert len(errors) == 1
