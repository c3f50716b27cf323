"""What the tests of the wiring share: tiny configs, a result to copy, and the command itself."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.cli import main
from experiments.config import CONF
from experiments.results.content import Result
from experiments.results.runs import Run
from experiments.sweeps.sweep import axes_of

HERE = Path(__file__).parent / "conf"
TINY = ["data=tiny", "model=tiny", "attack=tiny", "defense=none", "tracking=disabled", "threads=1"]


@pytest.fixture(scope="session")
def resolve() -> Callable[..., dict[str, Any]]:
    """Return the resolved config of a tiny run with some overrides."""

    def resolved(*overrides: str) -> dict[str, Any]:
        searched = [f"hydra.searchpath=[{HERE}]", *TINY, *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            plain = OmegaConf.to_container(compose("config", searched), resolve=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    return resolved


@pytest.fixture
def invertune(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in an empty folder, with one thread and without any W&B account."""

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA"))}
        kept |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "INVERTUNE_ALLOCATOR": "0"}
        return subprocess.run(
            [sys.executable, "-m", "experiments.cli", *words],
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": str(CONF.parent)} | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return command


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command in this process, in an empty folder: exit code, stdout and stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB", "HYDRA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)

    def command(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        return code, *capsys.readouterr()

    yield command
    root.handlers[:] = handlers  # Hydra sets up logging anew
    root.setLevel(level)


@pytest.fixture
def tiny_words() -> list[str]:
    """Return the command line of a tiny run."""
    return ["run", "--config-dir", str(HERE), *TINY]


def _rate(value: float) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1), "n": 100}


@pytest.fixture
def result() -> Callable[..., dict[str, Any]]:
    """Return a valid result that was never measured."""

    def made(seed: int = 0, defense: str = "mine", asr: float = 0.9) -> dict[str, Any]:
        def score(hit: float) -> dict[str, Any]:
            recall = {"r@1": _rate(0.5), "r@5": _rate(0.7), "r@10": _rate(0.8)}
            zero_shot = {"ca": _rate(0.75), "asr": _rate(hit), "target_rate": _rate(0.01),
                         "own_class": _rate(0.6)}  # fmt: skip
            both = {"image_to_text": recall, "text_to_image": recall, "asr": recall}
            return {"zero_shot": zero_shot, "retrieval": both}

        return {
            "schema": 1,
            "id": f"{seed:08x}",
            "seed": seed,
            "config": {},
            "model": {"name": "rn50_mini", "parameters": 10, "image_size": 64},
            "data": {"name": "icons", "classes": 100},
            "attack": {"name": "badnet", "target_label": "lemon", "poison_rate": 0.05,
                       "poisoned": 400, "pairs": 8000},
            "defense": {"name": defense, "clean_samples": 64, "knows": "class names"},
            "identification": {"target_label": "lemon", "gain": 0.9, "runner_up": "key",
                               "runner_up_gain": 0.1, "correct": True},
            "inversion": None,
            "scores": {"clean": score(0.01), "backdoored": score(asr), "purified": score(0.02)},
            "seconds": {"implant": 10.0, "purify": 5.0, "purify/identify": 4.0},
            "peak_memory_mib": 100.0,
            "versions": {"invertune": "0", "torch": "0", "open_clip_torch": "0", "python": "0"},
        }  # fmt: skip

    return made


@pytest.fixture
def as_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a run of a result; its stages are looked for below ``tmp_path``."""

    def made(result: dict[str, Any], name: str = "run") -> Run:
        return Run(tmp_path / name, cast(Result, result))

    return made


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., str]:
    """Write a JSON file of a stage below ``tmp_path``; return the folder as a result names it."""

    def left(stage: str, file: str, content: object) -> str:
        folder = tmp_path / "stages" / stage
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return f"stages/{stage}"

    return left


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    """Write a sweep below ``tmp_path``; its axes are the keys with more than one value."""

    def written(preset: str, experiment: str, jobs: Sequence[dict[str, Any]]) -> Path:
        sweep = {
            "name": f"{preset}-00000000",
            "experiment": experiment,
            "created": "2026-01-01T00:00:00",
            "arguments": [f"experiment={preset}", "model=rn50_mini"],
            "axes": axes_of([job["overrides"] for job in jobs]),
            "jobs": [{"stages": {}, **job} for job in jobs],
        }
        path = tmp_path / "sweeps" / f"{sweep['name']}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(sweep), encoding="utf-8")
        return path

    return written


@pytest.fixture
def suspected(result: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return the result of a model of its own, backdoored or not, with what was said of it."""

    def made(
        number: int, backdoored: bool, p: float, score: float | None = None, limit: float = 0.5
    ) -> dict[str, Any]:
        one = result(number, "invertune")
        kind = "backdoored" if p <= 0.01 else "clean"
        one["verdict"] = {"kind": kind, "p": p, "alarm": 0.01, "clear": 0.1, "form": "mask",
                          "lead": 1 - p}  # fmt: skip
        one["identification"] = {"target_label": "lemon", "gain": 1 - p, "runner_up": "key",
                                 "runner_up_gain": 0.0, "correct": backdoored or None}  # fmt: skip
        if not backdoored:
            one["attack"] |= {"name": "none", "target_label": None, "poison_rate": 0.0,
                              "poisoned": 0}  # fmt: skip
        if score is not None:
            one["detection"] = {"name": "decree", "of": "model", "needs": "images", "knows": "",
                                "clean_samples": 9, "score": score, "threshold": limit,
                                "flagged": score > limit}  # fmt: skip
        one["stages"] = {"implant": f"stages/implant-{number:016x}"}
        return one

    return made
