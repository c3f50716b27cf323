"""``invertune gallery``: every attack's trigger in one picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.figures.gallery import first_runs, trigger_sheet
from experiments.files import replacing
from experiments.results.runs import load_runs
from experiments.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture and print its path."""
    parser = argparse.ArgumentParser(
        "invertune gallery",
        description="Draw the trigger of every attack that was run: clean test images, the same "
        "with the trigger, and what it changes, amplified.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--output", type=Path, help="PNG to write; RUNS/triggers.png by default")
    parser.add_argument("--model", help="only runs of this model, such as rn50_mini")
    parser.add_argument("--images", type=int, default=2, choices=(1, 2, 3, 4), help="per kind")
    arguments = parser.parse_args(argv)
    runs = first_runs(load_runs(arguments.runs), arguments.model)
    sheet = trigger_sheet(runs, arguments.images)
    output = arguments.output or arguments.runs / "triggers.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as partial:
        sheet.save(partial, format="PNG", optimize=True)
    say(output)
    return 0
