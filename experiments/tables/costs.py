"""Columns on what a defense takes, and what it does to a model without a backdoor."""

from __future__ import annotations

import json

from evaluation.statistics import UNBOUNDED, Estimate
from experiments.results.measures import lookup, share
from experiments.results.runs import Run
from experiments.tables.grid import Column, Form
from experiments.tables.measure import Measure, Runs, per_seed

CONTROL = "none"  # the attack that fine-tunes without poison


def cost(name: str, title: str, place: str, form: Form = "integer", csv: bool = False) -> Measure:
    """Return the column of a number that a result holds of its defense.

    Args:
        name: Of the column.
        title: Of the column.
        place: Where the number stands in a result, such as ``seconds/purify``.
        form: How it is written.
        csv: Whether only csv has it.
    """

    def read(run: Run) -> Estimate | None:
        value = lookup(run.result, place)
        return None if value is None else Estimate(float(value))

    return per_seed(Column(name, title, form, where="csv" if csv else "all"), read, UNBOUNDED)


def knows() -> Measure:
    """Return what the defense is given beyond the model and the images, in its own words."""
    column = Column("knows", "knows", where="csv")
    return Measure(column, lambda runs: runs[0].result["defense"]["knows"])


def ca_loss_of(run: Run) -> Estimate | None:
    """Return how much CA the defense costs; None if it was not measured."""
    before, after = (
        share(run.result, model, "zero_shot/ca") for model in ("backdoored", "purified")
    )
    return None if before is None or after is None else Estimate(before - after)


def harm(runs: Runs) -> list[Measure]:
    """Return what the same defense costs the clean control of the same seed, in CA."""
    controls = {_told(run): ca_loss_of(run) for run in runs if run.name("attack") == CONTROL}
    column = Column("harm", "harm", "points", optional=True)
    return [per_seed(column, lambda run: controls.get(_told(run)), UNBOUNDED)]


def _told(run: Run) -> tuple[str, ...]:
    """Return what a run shares with its control."""
    defense = json.dumps(run.config.get("defense"), sort_keys=True)
    names = (run.name("data"), run.name("model"), run.name("defense"))
    return *names, str(run.seed), defense
