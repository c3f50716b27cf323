"""``invertune report``: one HTML page of all runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.report.page import write_report
from experiments.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and print its path."""
    parser = argparse.ArgumentParser(
        "invertune report", description="Write one HTML page with tables, triggers and curves."
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--output", type=Path, help="the page; RUNS/report.html if not given")
    arguments = parser.parse_args(argv)
    say(write_report(arguments.runs, arguments.output))
    return 0
