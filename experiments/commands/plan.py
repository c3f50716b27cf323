"""``invertune plan``: what runs will take, before any of them begins."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from experiments.composing import searched_in
from experiments.planning import GPUS, SHARES, Plan, Row, expand, make_plan
from experiments.terminal import say

_TEXTS = ("model", "stage")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _time(seconds: float) -> str:
    return f"{_short(seconds / 3600)} h" if seconds >= 360 else f"{_short(seconds)} s"


def _cells(row: Row, plan: Plan, gpus: Sequence[str], measured: bool) -> list[str]:
    work = row.work
    blank = "?" if row.unknown else "-"  # of what is made already nothing is left
    told = [blank] * 6 if work is None else [
        _number(one) for one in (work.steps, work.forward, work.back, work.trained, work.texts,
                                 work.texts_trained)
    ]  # fmt: skip
    hours = [blank if work is None else _time(3600 * plan.hours_of(row, gpu)) for gpu in gpus]
    cells = [row.model, row.stage, str(row.count), str(row.there), *told,
             _number(row.flop / 1e15), *hours]  # fmt: skip
    here = "?" if row.seconds is None else _time(row.seconds)
    return [*cells, here] if measured else cells


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        both = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) if i < len(_TEXTS) else cell.rjust(width)
                        for i, (cell, width) in enumerate(both)).rstrip()  # fmt: skip


def lines(plan: Plan, gpus: Sequence[str]) -> Iterator[str]:
    """Yield what is said of a plan.

    Args:
        plan: The plan.
        gpus: Names of those whose hours are said, of `GPUS`.
    """
    made = sum(row.there for row in plan.rows)
    yield f"{plan.runs} runs of {sum(row.count for row in plan.rows)} stages, {made} of them made"
    measured = plan.seconds is not None
    head = ["model", "stage", "stages", "made", "steps", "forward", "back", "trained", "texts",
            "texts trained", "PFLOP", *gpus]  # fmt: skip
    table = [[*head, "here"] if measured else head]
    yield from _aligned([*table, *(_cells(row, plan, gpus, measured) for row in plan.rows)])
    yield ("optimizer steps; images that go forward, forward and back to their pixels, and to the "
           "weights; texts likewise; of stages that are not made yet")  # fmt: skip
    unknown = [f"{row.stage} of {row.model} ({row.unknown})" for row in plan.rows if row.unknown]
    if unknown:
        yield f"not counted, for the method does not say: {', '.join(unknown)}"
    there = {*plan.families.values()}
    shares = ", ".join(f"{SHARES[family]} for {family}" for family in SHARES if family in there)
    yield f"hours = FLOP / (peak * share), share {shares}"
    for gpu in gpus:
        peak, room = GPUS[gpu]
        yield f"  {gpu} ({peak} TFLOP/s, {room} GB): {_time(3600 * plan.hours(gpu))} on one"
    if plan.seconds is not None:
        yield f"  this machine, as measured on a few images: {_time(plan.seconds)}"
    for what, size in plan.disk.items():
        yield f"disk: {_short(size / 1e9)} GB {what}"
    if plan.disk:
        yield f"disk: {_short(sum(plan.disk.values()) / 1e9)} GB in all"
    for model, (size, batch) in plan.memory.items():
        yield (f"memory of a GPU: {_short(size / 1e9)} GB for {model} with {batch} pairs on it, in "
               "16 bits (weights, gradients, AdamW and what is kept for the way back)")  # fmt: skip
    if plan.missing:
        yield f"not there yet: {', '.join(plan.missing)}"


def main(argv: Sequence[str]) -> int:
    """Print the plan of a command line that ``invertune run`` takes."""
    parser = argparse.ArgumentParser(
        "invertune plan",
        description="Say what runs will take before any of them begins: stages and which of them "
        "are made already, images and texts through the models, FLOP, hours, disk and memory. "
        "Nothing is trained, and the data need not be there.",
    )
    parser.add_argument("overrides", nargs="*", help="as of invertune run, lists of values too")
    parser.add_argument("--config-dir", metavar="DIR", help="where a data/NAME.yaml of yours is")
    known = ", ".join(GPUS)
    parser.add_argument("--gpu", nargs="+", default=["A100", "H100"], metavar="GPU",
                        help=f"whose hours are said, of {known} (default: A100 H100)")  # fmt: skip
    parser.add_argument("--measure", action="store_true", help="time each model on this machine")
    found = parser.parse_intermixed_args(list(argv))
    # What follows --gpu may be an override all the same.
    more = [word for word in found.gpu if "=" in word or word.startswith("~")]
    gpus = [word for word in found.gpu if word not in more]
    unknown = [word for word in gpus if word not in GPUS]
    if unknown or not gpus:
        raise ValueError(f"--gpu takes some of {known}, got {', '.join(unknown) or 'none'}")
    words = [*searched_in(found.config_dir), *found.overrides, *more]
    for line in lines(make_plan(expand(words), found.measure), gpus):
        say(line)
    return 0
