"""Columns on what a detector says, of the backdoored model or of the pairs it was trained on."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from evaluation.detection import NEWCOMBE
from evaluation.statistics import UNBOUNDED, Estimate
from experiments.results.runs import Run
from experiments.results.summary import detection_cell
from experiments.tables.grid import Column, Form, Value
from experiments.tables.measure import Measure, Runs, per_seed


def detector() -> Measure:
    """Return the detectors of the runs."""

    def read(runs: Runs) -> Value:
        names = dict.fromkeys(run.name("detector") for run in runs)
        return ", ".join(names)

    return Measure(Column("detector", "detector"), read)


def flagged() -> Measure:
    """Return how many of the models a detector of models takes for backdoored."""

    def read(runs: Runs) -> Value:
        found = [run.detection.get("flagged") for run in runs]
        known = [one for one in found if one is not None]
        return f"{sum(known)} of {len(known)}" if known else None

    return Measure(Column("flagged", "flagged"), read)


def detected() -> Measure:
    """Return what detectors say in one cell, the most frequent first."""

    def read(runs: Runs) -> Value:
        counts = Counter(cell for run in runs if (cell := detection_cell(run.result)) is not None)
        words = [f"{cell} x{n}" if n > 1 else cell for cell, n in counts.most_common()]
        return ", ".join(words) or None

    return Measure(Column("detected", "detected"), read)


def number(
    key: Literal["score", "threshold", "average_precision", "fpr_at_95_tpr"],
    name: str,
    title: str,
    form: Form,
) -> Measure:
    """Return a number of the detector."""

    def read(run: Run) -> Estimate | None:
        value = run.detection.get(key)
        return None if value is None else Estimate(float(value))

    bounds = UNBOUNDED if form == "number" else (0.0, 1.0)
    return per_seed(Column(name, title, form=form, interval=True), read, bounds)


def poisoned_share() -> Measure:
    """Return the share of the pairs that is poisoned, which is the average precision of chance."""

    def read(run: Run) -> Estimate | None:
        pairs = run.detection.get("pairs")
        return Estimate(run.detection["poisoned"] / pairs) if pairs else None

    return per_seed(Column("poisoned_share", "poisoned", form="percent"), read)


def auroc() -> Measure:
    """Return the AUROC of a detector of poisoned pairs."""

    def read(run: Run) -> Estimate | None:
        rate = run.detection.get("auroc")
        # Without n: an area is no share of cases that those of several seeds could be added to.
        if rate is None:
            return None
        return Estimate(rate["value"], rate["low"], rate["high"], interval=NEWCOMBE)

    return per_seed(Column("auroc", "AUROC", form="percent", interval=True), read)
