"""Kill a sweep of 12 runs at random moments, again and again, and compare with an undisturbed one.

``python tests/stress/kill_sweep.py [--kills 20] [--seed 0]`` prints a log and ends with exit code 0
if the killed sweep has the same 12 results, made of the same weights, and no stage was made again
after it had been complete. It takes some minutes, so that it is no test of the suite.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GRID = [
    "run", "--config-dir", str(ROOT / "tests" / "experiments" / "conf"), "-m",
    "data=tiny", "model=tiny", "attack=tiny", "tracking=disabled", "threads=1",
    "defense=none,tiny", "attack.poison_rate=0.1,0.2", "seed=0,1,2",
]  # fmt: skip
# A stage's time and a process's memory are the only things that may differ.
_MEASURED = ("seconds", "peak_memory_mib", "sha256")


def _start(folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "INVERTUNE_ALLOCATOR": "0"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", *GRID],
            cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _results(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted((folder / "runs").glob("*/result.json")):
        result = json.loads(path.read_text())
        found[path.parent.name] = {k: v for k, v in result.items() if k not in _MEASURED}
    return found


def _weights(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["files"]["weights.safetensors"]["sha256"]
        for path in sorted((folder / "runs" / "stages").glob("*/stage.json"))
        if (path.parent / "weights.safetensors").exists()
    }


def _differences(one: Any, other: Any, place: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [
            found
            for key in keys
            for found in _differences(one.get(key), other.get(key), f"{place}/{key}")
        ]
    return [] if one == other else [f"{place}: {one} and {other}"]


def _complete(folder: Path) -> dict[str, int]:
    """Return the complete stages and when each was made, in nanoseconds."""
    stages = (folder / "runs" / "stages").glob("[!.]*/stage.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in stages}


def main() -> int:
    """Run both sweeps and compare them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        calm, killed = Path(name) / "calm", Path(name) / "killed"
        calm.mkdir(), killed.mkdir()
        started = time.monotonic()
        process, first = _start(calm), 0.0
        while process.poll() is None:
            time.sleep(0.1)
            if not first and _complete(calm):
                first = time.monotonic() - started
        if process.returncode != 0:
            print((calm / "log.txt").read_text())
            return 1
        whole = time.monotonic() - started
        print(f"undisturbed: {len(_results(calm))} results in {whole:.1f} s, "
              f"the first stage after {first:.1f} s", flush=True)  # fmt: skip
        seen: dict[str, int] = {}
        for kill in range(arguments.kills):
            # From before the first stage that is left to well within the next ones.
            delay = moments.uniform(0.5 * first, first + 3 * whole / arguments.kills)
            process = _start(killed)
            time.sleep(delay)
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            now = _complete(killed)
            again = [stage for stage, made in seen.items() if now.get(stage) != made]
            if again:
                print(f"made again after they were complete: {again}")
                return 1
            seen = now
            done = len(_results(killed))
            how = "had ended" if ended else "killed"
            print(
                f"{how} {kill + 1:2d} after {delay:5.2f} s: {len(now)} stages, {done} results",
                flush=True,
            )
        if _start(killed).wait() != 0:
            print((killed / "log.txt").read_text())
            return 1
        again = [stage for stage, made in seen.items() if _complete(killed).get(stage) != made]
        different = [*_differences(_results(calm), _results(killed)),
                     *_differences(_weights(calm), _weights(killed))]  # fmt: skip
        same = not different
        for place in different[:10]:
            print(f"differs: {place}")
        print(f"at the end: {len(_results(killed))} results, {len(_complete(killed))} stages")
        print(f"results and weights are {'the same' if same else 'DIFFERENT'}; made again: {again}")
        return 0 if same and not again else 1


if __name__ == "__main__":
    sys.exit(main())
