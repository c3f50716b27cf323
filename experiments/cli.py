"""The console command ``invertune``; it imports nothing heavy before a sub-command needs it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from experiments.errors import FAILURE, USAGE, is_user_error, report

__all__ = ["COMMANDS", "FAILURE", "HELP", "USAGE", "main", "tune_allocator"]

HELP = """\
usage: invertune COMMAND ...

Plant backdoors in CLIP models, find and remove them.

commands:
  run        one attack and one defense on one model, or a sweep:
             invertune run attack=badnet defense=invertune seed=0
             invertune run -m attack=badnet,blended seed=0,1,2
  table      a table of all runs below a folder
  report     one HTML page of all runs below a folder
  benchmark  time the parts of a run on this machine
  sheets     contact sheets of the data set's parts
  hubness    what universal perturbations do to clean models

invertune COMMAND --help says more. Results go to runs/ unless runs_dir=PATH is given."""

COMMANDS = ("run", "table", "report", "benchmark", "sheets", "hubness")

# glibc returns large blocks to the system at once, and training asks for them again at each step:
# keeping them, in huge pages, makes it 1.4 times as fast.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
_TUNABLE = "glibc.malloc.hugetlb=1"
_GUARD = "INVERTUNE_ALLOCATOR"  # 1: done, 0: not wanted


def tune_allocator() -> None:
    """Start this command once more with glibc set up for training; Linux only.

    ``INVERTUNE_ALLOCATOR=0`` turns it off.
    """
    if not sys.platform.startswith("linux") or _GUARD in os.environ:
        return
    environment = {**_ALLOCATOR, **os.environ, _GUARD: "1"}
    tunables = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part]
    if not any(part.startswith("glibc.malloc.hugetlb=") for part in tunables):
        tunables.append(_TUNABLE)
    environment["GLIBC_TUNABLES"] = ":".join(tunables)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and return the exit code: 0, 1 for a failure, 2 for wrong usage."""
    from_shell = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0 if argv else USAGE
    command, rest = argv[0], argv[1:]
    if command == "--version":
        from importlib.metadata import version

        print(f"invertune {version('invertune')}")
        return 0
    if command not in COMMANDS:
        choices = ", ".join(COMMANDS)
        print(f"error: unknown command {command!r}; choices: {choices}", file=sys.stderr)
        return USAGE
    if from_shell and command in ("run", "benchmark"):
        tune_allocator()
    if command == "run":
        from experiments.run import main as run

        return run(rest)
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    try:
        return _dispatch(command, rest)
    except Exception as error:
        if not is_user_error(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        report(error)
        return FAILURE


def _dispatch(command: str, argv: list[str]) -> int:
    if command == "table":
        return _table(argv)
    if command == "report":
        return _report(argv)
    if command == "benchmark":
        from experiments.benchmark import main as benchmark

        return benchmark(argv) or 0
    if command == "hubness":
        from experiments.hubness import main as hubness

        return hubness(argv)
    from experiments.sheets import main as sheets

    return sheets(argv) or 0


def _table(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "invertune table",
        description="One row per run, in percent, and a mean over seeds where there are several; "
        "csv has shares in [0, 1].",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--format", choices=("md", "csv", "latex"), default="md")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE]",
        help="such as defense=invertune; may be given several times",
    )
    arguments = parser.parse_args(argv)
    from experiments.table import table

    print(table(arguments.runs, arguments.format, arguments.only))
    return 0


def _report(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "invertune report", description="Write one HTML page with tables, triggers and curves."
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--output", type=Path, help="the page; RUNS/report.html if not given")
    arguments = parser.parse_args(argv)
    from experiments.report import write_report

    output = arguments.output or arguments.runs / "report.html"
    print(write_report(arguments.runs, output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
