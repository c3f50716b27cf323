"""What universal perturbations do to models without a backdoor.

``invertune run attack=none`` takes a clean control through step 1; ``invertune hubness RUNS`` reads
what every generator did there. The largest gain of any class is the generator's reading on clean
models, ``clean_gain`` in the defense's YAML; classes that gain much again and again are hubs, which
a data set like ``icons`` should not have.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.results.result import load_results


def clean_gains(runs_dir: Path) -> dict[str, list[pd.Series[float]]]:
    """Return every generator's gains by class, one series for each clean control.

    Raises:
        ValueError: If there is no clean control that a defense has voted on.
    """
    gains: dict[str, list[pd.Series[float]]] = defaultdict(list)
    for result in load_results(runs_dir):
        if result["attack"]["target_label"] is not None:
            continue
        names = list(result["config"]["data"]["classes"])
        for vote in _votes(runs_dir / result["stages"]["purify"] / "evidence.json"):
            gain = pd.Series(vote["perturbed_frequency"], index=names) - vote["clean_frequency"]
            gains[vote["generator"]].append(gain)
    if not gains:
        raise ValueError(
            f"{runs_dir} has no clean control with votes; make one: "
            "invertune run attack=none defense=invertune"
        )
    return dict(gains)


def _votes(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["identification"]
    return list(found["votes"]) if found else []


def describe(gains: dict[str, list[pd.Series[float]]], show: int = 6) -> str:
    """Return the readings as text: largest gain of each generator, classes by mean gain."""
    lines = []
    for generator, series in gains.items():
        largest = [float(gain.max()) for gain in series]
        mean = pd.concat(series, axis=1).mean(axis=1).sort_values(ascending=False).head(show)
        classes = ", ".join(f"{name} {gain:+.2f}" for name, gain in mean.items())
        lines.append(
            f"{generator}: largest gain {max(largest):.2f} "
            f"(mean {sum(largest) / len(largest):.2f} over {len(series)} clean models); {classes}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Print the readings of the clean controls below a folder of runs."""
    parser = argparse.ArgumentParser("invertune hubness", description="Readings on clean models.")
    parser.add_argument("runs", type=Path, help="folder of runs with attack=none")
    print(describe(clean_gains(parser.parse_args(list(argv)).runs)))
    return 0
