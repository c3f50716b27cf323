"""What universal perturbations do to models without a backdoor.

``invertune run attack=none defense=invertune_votes`` takes a clean control through its generators;
``invertune hubness RUNS`` reads what every one did there. The largest gain of any class is the
generator's reading on clean models, ``clean_gain`` in the defense's YAML; classes that gain much
again and again are hubs, which a data set like ``icons`` should not have.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.results.runs import load_runs
from experiments.terminal import printable, say

log = logging.getLogger(__name__)


def clean_gains(runs_dir: Path) -> dict[str, list[pd.Series[float]]]:
    """Return every generator's gains by class, one series for each clean control.

    Raises:
        ValueError: If there is no clean control that a defense has voted on.
    """
    gains: dict[str, list[pd.Series[float]]] = defaultdict(list)
    for run in load_runs(runs_dir):
        for vote in run.votes if run.target is None else ():
            perturbed, names = vote["perturbed_frequency"], run.class_names
            if len(set(names)) != len(perturbed) or len(names) != len(perturbed):
                log.warning("%s is left out: votes of %d classes, and the data has %d",
                            run.folder, len(perturbed), len(names))  # fmt: skip
                break
            series = pd.Series(perturbed, index=names)
            gains[vote["generator"]].append(series - vote["clean_frequency"])
    if not gains:
        raise ValueError(
            f"{runs_dir} has no clean control with votes; make one: "
            "invertune run attack=none defense=invertune_votes"
        )
    return dict(gains)


def describe(gains: dict[str, list[pd.Series[float]]], show: int = 6) -> str:
    """Return the readings as text: largest gain of each generator, classes by mean gain."""
    lines = []
    for generator, series in gains.items():
        largest = [float(gain.max()) for gain in series]
        mean = pd.concat(series, axis=1).mean(axis=1).sort_values(ascending=False).head(show)
        classes = ", ".join(f"{name} {gain:+.2f}" for name, gain in mean.items())
        mean_of_largest = sum(largest) / len(largest)
        lines.append(
            f"{generator}: largest gain {max(largest):.2f} "
            f"(mean {mean_of_largest:.2f} over {len(series)} clean models); {classes}"
        )
    return "\n".join(map(printable, lines))


def main(argv: Sequence[str]) -> int:
    """Print the readings of the clean controls below a folder of runs."""
    parser = argparse.ArgumentParser("invertune hubness", description="Readings on clean models.")
    parser.add_argument("runs", type=Path, help="folder of runs with attack=none")
    say(describe(clean_gains(parser.parse_args(list(argv)).runs)))
    return 0
