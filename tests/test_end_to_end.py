"""One real run at mini scale: a backdoor is planted, found and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.results.result import read_result

ROOT = Path(__file__).parent.parent


@pytest.mark.end_to_end
def test_a_backdoor_is_planted_found_and_removed(tmp_path: Path) -> None:
    # Beside other tests, two threads of its own would only wait for a processor.
    threads = ["threads=1"] if "PYTEST_XDIST_WORKER" in os.environ else []
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA"))}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cli", "run",
         "attack=badnet", "defense=invertune", "model=rn50_mini", "tracking=disabled",
         *threads],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.splitlines()[-1]
    assert path.name == "result.json"
    result = read_result(path)  # which checks it against its schema

    def rate(model: str, name: str) -> float:
        return float(result["scores"][model]["zero_shot"][name]["value"])

    assert rate("clean", "ca") >= 0.95
    assert rate("backdoored", "asr") >= 0.9
    assert result["identification"]["target_label"] == result["attack"]["target_label"]
    assert result["identification"]["correct"]
    verdict = result["verdict"]
    assert verdict is not None
    assert verdict["kind"] == "backdoored"
    assert rate("purified", "asr") <= 0.03
    assert rate("backdoored", "ca") - rate("purified", "ca") <= 0.03
    assert rate("purified", "own_class") >= 0.85 * rate("clean", "own_class")
