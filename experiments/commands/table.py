"""``invertune table``: a table of all runs, or of one experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.terminal import say


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "invertune table",
        description="One row per run and a mean over seeds where there are several, or the table "
        "of one experiment; in percent, csv in shares. parquet writes everything that every "
        "result holds to RUNS/results.parquet.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument(
        "--experiment", metavar="ID", help="such as T1: means over seeds, paired tests, the paper's"
    )
    parser.add_argument("--format", choices=("md", "csv", "latex", "parquet"), default="md")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE]",
        help="such as defense=invertune; may be given several times",
    )
    arguments = parser.parse_args(argv)
    from experiments.tables.table import table

    say(table(arguments.runs, arguments.format, arguments.only, arguments.experiment))
    return 0
