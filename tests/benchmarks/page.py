"""Time the page of 100 results with evidence, pictures, F1 and a study of F4; and short commands.

``python tests/benchmarks/page.py [--count 100] [--keep FOLDER] [--code ROOT]``: another checkout's
code may be timed on the same runs, for numbers from before and after a change.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.results.result import write_result

sys.path.insert(0, str(Path(__file__).parent))
from thousand_results import synthetic

ROOT = Path(__file__).parents[2]
COMMANDS = (["--help"], ["status", "RUNS"], ["table", "RUNS"],
            ["table", "RUNS", "--experiment", "F1"], ["table", "RUNS", "--experiment", "F4"],
            ["report", "RUNS"])  # fmt: skip
ATTACKS = ("badnet", "blended", "sig", "wanet", "badclip")
PRESERVE = ("2.5", "8.0", "25.0", "80.0")
ACTIVATION = ("0.03", "0.1", "0.3", "1.0")
CLASSES = 100


def write_runs(runs: Path, count: int) -> None:
    """Write so many runs: a grid of F4, then F1's attacks over and over with other seeds."""
    f4 = [[f"defense.tune.weights.preserve={a}", f"defense.tune.weights.activation={b}"]
          for a in PRESERVE for b in ACTIVATION]  # fmt: skip
    f1 = [[f"attack={ATTACKS[i % len(ATTACKS)]}", f"seed={i // len(ATTACKS)}"]
          for i in range(count - len(f4))]  # fmt: skip
    plans: dict[str, list[dict[str, Any]]] = {"F4": [], "F1": []}
    for number, words in enumerate([*f4, *f1]):
        result = _write_run(runs, number, words)
        plans["F4" if words in f4 else "F1"].append(
            {"overrides": words, "run": result["run"], "id": result["id"],
             "stages": {role: Path(way).name for role, way in result["stages"].items()}}
        )  # fmt: skip
    for name, jobs in plans.items():
        _write_sweep(runs, name, jobs)


def _write_run(runs: Path, number: int, words: Sequence[str]) -> dict[str, Any]:
    given = dict(word.split("=") for word in words)
    seed, attack = int(given.get("seed", 0)), given.get("attack", "badnet")
    made = synthetic(number, seed, attack, "invertune", number % 17 / 40)
    made["id"] = f"{number:08x}{number:08x}"
    weights = {key.rsplit(".", 1)[1]: float(value) for key, value in given.items() if "." in key}
    made["config"] |= {"seed": seed, "defense": {"name": "invertune", "tune": {"weights": weights}}}
    made["stages"] = {role: f"stages/{role}-{number:016x}"
                      for role in ("pretrain", "implant", "purify", "inspect")}  # fmt: skip
    rng = np.random.default_rng(number)
    for role, way in made["stages"].items():
        (runs / way).mkdir(parents=True)
        for name, content in _files(role, rng):
            (runs / way / name).write_text(json.dumps(content))
    _write_pictures(runs / made["stages"]["inspect"] / "pictures", rng)
    run = f"rn50_mini-{attack}-invertune-seed{seed}-{number:08x}"
    write_result(runs / run, made)
    return {**made, "run": run}


def _files(role: str, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    if role in ("pretrain", "implant"):
        yield "losses.json", (4 * np.exp(-np.arange(600) / 90) + rng.random(600)).tolist()
    if role == "implant":
        yield "trigger.json", {"_target_": "attacks.triggers.PatchTrigger", "size": 16, "seed": 0}
    if role == "purify":
        clean = rng.dirichlet(np.ones(CLASSES)).tolist()
        perturbed = rng.dirichlet(np.full(CLASSES, 0.1)).tolist()
        votes = [{"generator": name, "clean_frequency": clean, "perturbed_frequency": perturbed,
                  "weight": 1.0} for name in ("patch", "pgd")]  # fmt: skip
        yield "evidence.json", {
            "identification": {"target_label": 3, "gain": 0.7, "runner_up": 4,
                               "runner_up_gain": 0.1, "votes": votes},
            "triggers": ["mask"],
            "divergence": {f"layer{i}": float(rng.random()) for i in range(1, 5)},
            "tuned_layers": ["layer4"],
            "neurons": {"layer4": [37, 512]},
            "curves": {"inversion mask": rng.random(200).tolist(),
                       "tuning": rng.random(240).tolist()},
            "seconds": {},
        }  # fmt: skip


def _write_pictures(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    for name in ("clean", "true", "inverted0"):
        for i in range(4):
            noise = rng.integers(256, size=(8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(noise).save(folder / f"{name}-{i}.png")


def _write_sweep(runs: Path, experiment: str, jobs: Sequence[dict[str, Any]]) -> None:
    axes: dict[str, dict[str, None]] = {}
    for job in jobs:
        for word in job["overrides"]:
            key, _, value = word.partition("=")
            axes.setdefault(key, {})[value] = None
    plan = {"name": f"{experiment.lower()}-00000000", "experiment": experiment,
            "created": "2026-01-01T00:00:00", "arguments": [], "jobs": jobs,
            "axes": {key: list(values) for key, values in axes.items()}}  # fmt: skip
    (runs / "sweeps").mkdir(exist_ok=True)
    (runs / "sweeps" / f"{plan['name']}.json").write_text(json.dumps(plan))


def time_commands(runs: Path, root: Path) -> None:
    """Print the seconds of each command, from the start of its process to its end."""
    print(f"{'command':28s} seconds  of them on a processor")
    for words in COMMANDS:
        filled = [str(runs) if word == "RUNS" else word for word in words]
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "experiments.cli", *filled], cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, check=False,
        )  # fmt: skip
        seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        said = done.stderr.decode().strip()[-300:] if done.returncode else ""
        failed = f"  exit code {done.returncode} {said}" if done.returncode else ""
        print(f"{' '.join(words):28s} {seconds:7.2f}  {busy:6.2f}{failed}", flush=True)
    print(f"the page has {(runs / 'report.html').stat().st_size / 2**20:.2f} MiB")


def main() -> int:
    """Write the runs and time the commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="leave the runs in this folder, new or as it was")
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose code is timed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = arguments.keep or Path(name)
        if not (runs / "sweeps").is_dir():
            write_runs(runs, arguments.count)
        time_commands(runs.resolve(), arguments.code.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
