"""``invertune sync``: push finished offline runs to Weights & Biases."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.terminal import say
from experiments.tracking.sync import sync


def main(argv: Sequence[str]) -> int:
    """Run ``invertune sync`` and return the exit code: 1 if a run did not arrive.

    Raises:
        ValueError: If there is no such folder, or runs to push and no key.
    """
    parser = argparse.ArgumentParser(
        "invertune sync",
        description="Send finished offline runs to Weights & Biases, under the same ids; what was "
        "sent before is left alone. W&B's own settings, such as WANDB_BASE_URL, hold.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    done = sync(parser.parse_args(argv).runs)
    say(done)
    return 1 if done.failed else 0
