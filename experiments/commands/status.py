"""``invertune status``: what is done, running, failed and left."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.terminal import say


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "invertune status",
        description="Say of every sweep what is done, running, failed (with the error) and left, "
        "which stages it needs, and how long it took and will take.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    from experiments.sweeps.status import status

    say(status(parser.parse_args(argv).runs))
    return 0
