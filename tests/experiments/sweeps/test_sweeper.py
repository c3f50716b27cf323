"""Sweeps of tiny runs: planned, resumed, failed, tried again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.config import CONF
from experiments.sweeps.failures import FAILURE_FILE, failure_line, is_complete
from experiments.sweeps.sweep import load_sweeps
from experiments.sweeps.sweeper import NODE, ResumingSweeper

Command = Callable[..., subprocess.CompletedProcess[str]]


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


def test_equal_numbers_of_an_axis_are_one_run(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    ran = invertune(*tiny_words, "-m", "attack.recipe.weight_decay=0,0.0,-0.0")
    assert ran.returncode == 0, ran.stderr
    (sweep,) = load_sweeps(tmp_path / "runs")
    (job,) = sweep.jobs
    assert job.settings["attack.recipe.weight_decay"] == "0"
    assert sweep.axes == {}


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
    assert not list((tmp_path / "runs").glob("*/failure.txt"))
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


def _config(words: list[str], *overrides: str) -> Any:
    """Return Hydra's own part of a config, as ``invertune run`` composes it."""
    searched, tiny = f"hydra.searchpath=[{words[2]}]", words[3:]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [searched, *tiny, *overrides], return_hydra_config=True).hydra


def test_options_are_fields_of_the_sweeper(tiny_words: list[str]) -> None:
    usual = _config(tiny_words).sweeper
    assert (usual.retry_failed, usual.name, usual.traceback) == (False, None, False)
    given = _config(tiny_words, f"{NODE}.retry_failed=true").sweeper
    fields = {key: value for key, value in given.items() if key != "_target_"}
    assert ResumingSweeper(**fields).retry_failed


def test_every_launcher_is_told_the_sweeps_name(tiny_words: list[str]) -> None:
    sweeper, told = ResumingSweeper(), list[Any]()

    class Launcher:
        def launch(self, overrides: Any, initial_job_idx: int) -> list[Any]:
            told.extend(overrides)
            return []

    sweeper.launcher = Launcher()
    sweeper._launch("t1-0123abcd", [["seed=0"], ["seed=1"]])
    assert [words[0] for words in told] == ["seed=0", "seed=1"]
    for words in told:
        hydra = _config(tiny_words, *words)
        assert hydra.sweeper.name == "t1-0123abcd"
        assert not any("t1-0123abcd" in word for word in hydra.overrides.task)  # nor in titles


def test_the_processes_of_a_torchrun_make_no_sweep(
    inside: Callable[..., tuple[int, str, str]],
    tiny_words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, complaint = inside(*tiny_words, "-m", "seed=0,1")
    assert code == 1
    assert "the processes of one torchrun make one run" in complaint


def test_a_job_of_slurm_is_queued_again_and_has_a_gpu_a_process(tiny_words: list[str]) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    launcher = OmegaConf.to_container(
        _config(
            tiny_words, "hydra/launcher=slurm", "processes=4", "hydra.launcher.partition=gpu"
        ).launcher,
        resolve=True,
    )
    assert isinstance(launcher, dict)
    assert launcher["max_num_timeout"] > 0
    own = ("_target_", "submitit_folder", "max_num_timeout", "timeout_min", "name", "mem_gb")
    fields = {key: value for key, value in launcher.items() if key not in own}
    fields["ntasks_per_node"] = fields.pop("tasks_per_node")  # submitit's own name
    script = _make_sbatch_string("work", "folder", time=launcher["timeout_min"], **fields)
    for line in ("--requeue", "--gpus-per-node=4", "--partition=gpu", "--signal=USR2@120",
                 "--open-mode=append", "--ntasks-per-node=1", "--time=720"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, line
