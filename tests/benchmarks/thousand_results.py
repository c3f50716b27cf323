"""Time table, report and status on many synthetic results, each from the start of its process.

``python tests/benchmarks/thousand_results.py [--count 1000]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.results.result import write_result

ROOT = Path(__file__).parents[2]


def synthetic(number: int, seed: int, attack: str, defense: str, hits: float) -> dict[str, Any]:
    """Return a valid result that was never measured."""

    def rate(value: float) -> dict[str, float | int]:
        return {"value": value, "low": max(0.0, value - 0.01), "high": min(1.0, value + 0.01),
                "n": 4000}  # fmt: skip

    def score(hit: float) -> dict[str, object]:
        recall = {"r@1": rate(0.7), "r@5": rate(0.9), "r@10": rate(0.95)}
        zero_shot = {"ca": rate(0.98), "asr": rate(hit), "target_rate": rate(0.0),
                     "own_class": rate(0.9)}  # fmt: skip
        sides = {"image_to_text": recall, "text_to_image": recall, "asr": recall}
        return {"zero_shot": zero_shot, "retrieval": sides}

    classes = {f"class {i}": f"icon-{i}" for i in range(100)}
    return {
        "schema": 1,
        "id": f"{number:08x}",
        "seed": seed,
        "config": {"data": {"classes": classes}, "attack": {"name": attack},
                   "defense": {"name": defense}},
        "model": {"name": "rn50_mini", "parameters": 7_000_000, "image_size": 64},
        "data": {"name": "icons", "classes": 100},
        "attack": {"name": attack, "target_label": "class 3", "poison_rate": 0.1,
                   "poisoned": 1500, "pairs": 15000},
        "defense": {"name": defense, "clean_samples": 512, "knows": "class names"},
        "identification": {"target_label": "class 3", "gain": 0.7, "runner_up": "class 4",
                           "runner_up_gain": 0.1, "correct": True},
        "inversion": {"asr": 0.9, "mask_share": 0.02, "embedding_cosine": 0.9},
        "scores": {"clean": score(0.0), "backdoored": score(0.99), "purified": score(hits)},
        "seconds": {"implant": 40.0, "purify": 80.0},
        "peak_memory_mib": 2000.0,
        "versions": {"invertune": "0", "torch": "0", "open_clip_torch": "0", "python": "3"},
    }  # fmt: skip


def main() -> int:
    """Write the results and time the commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        jobs = []
        for i in range(count):
            seed, attack, defense = i % 20, f"attack{i // 20 % 10}", f"defense{i // 200}"
            made = synthetic(i, seed, attack, defense, i % 97 / 970)
            write_result(runs / f"run{i:05d}", made)
            overrides = [f"attack={attack}", f"defense={defense}", f"seed={seed}"]
            jobs.append(
                {"overrides": overrides, "run": f"run{i:05d}", "id": made["id"], "stages": {}}
            )
        axes = {
            key: sorted({dict(word.split("=") for word in job["overrides"])[key] for job in jobs})
            for key in ("attack", "defense", "seed")
        }
        plan = {"name": "sweep-0", "experiment": "T1", "created": "2026", "arguments": [],
                "axes": axes, "jobs": jobs}  # fmt: skip
        (runs / "sweeps").mkdir()
        (runs / "sweeps" / "sweep-0.json").write_text(json.dumps(plan))
        for words in (["--help"], ["status", name], ["table", name],
                      ["table", name, "--experiment", "T1"], ["table", name, "--format", "parquet"],
                      ["report", name]):  # fmt: skip
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "experiments.cli", *words],
                cwd=ROOT, capture_output=True, check=False,
            )  # fmt: skip
            seconds = time.monotonic() - started
            said = done.stderr.decode().strip()[-300:] if done.returncode else ""
            command = " ".join(words).replace(name, "RUNS")
            print(f"{command:28s} {seconds:6.2f} s, exit code {done.returncode} {said}", flush=True)
        page = runs / "report.html"
        if page.exists():
            print(f"the page has {page.stat().st_size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
