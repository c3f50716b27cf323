"""Columns on how well a detector tells the poisoned pairs of a training set."""

from __future__ import annotations

from evaluation.detection import NEWCOMBE
from evaluation.statistics import Estimate
from experiments.results.measures import lookup
from experiments.results.runs import Run
from experiments.tables.grid import Column
from experiments.tables.measure import Measure, per_seed


def pairs_auroc() -> Measure:
    """Return the AUROC of the poisoned pairs."""

    def read(run: Run) -> Estimate | None:
        area = lookup(run.result, "detection/auroc")
        if area is None:
            return None
        # Without n: it is no share of n cases, of which seeds could be thrown together.
        return Estimate(area["value"], area["low"], area["high"], interval=NEWCOMBE)

    return per_seed(Column("pairs_auroc", "AUROC", form="percent", interval=True), read)


def pairs_share(key: str, title: str) -> Measure:
    """Return another share that the detection holds, such as ``average_precision``."""

    def read(run: Run) -> Estimate | None:
        share = lookup(run.result, f"detection/{key}")
        return None if share is None else Estimate(float(share))

    return per_seed(Column(f"pairs_{key}", title, form="percent", interval=True), read)


def pairs_poisoned() -> Measure:
    """Return the share of the pairs that is poisoned, which is chance's average precision."""

    def read(run: Run) -> Estimate | None:
        pairs, poisoned = (lookup(run.result, f"detection/{key}") for key in ("pairs", "poisoned"))
        return Estimate(poisoned / pairs) if pairs and poisoned is not None else None

    return per_seed(Column("pairs_poisoned", "poisoned pairs, %", form="percent"), read)
