"""A column of a table together with how its cells are read from runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.statistics import SHARE, Estimate, over_seeds
from experiments.results.runs import Run
from experiments.tables.grid import Column, Value

Runs = Sequence[Run]


@dataclass(frozen=True)
class Measure:
    """A column, and how its cell is read from the runs of a row, one per seed, at least one."""

    column: Column
    read: Callable[[Runs], Value]


def per_seed(
    column: Column,
    estimate: Callable[[Run], Estimate | None],
    bounds: tuple[float, float] = SHARE,
) -> Measure:
    """Return a column of means over the seeds.

    Args:
        column: The column.
        estimate: From a run to its number, None where it has none.
        bounds: Smallest and largest number that there is.
    """
    return Measure(column, lambda runs: over_seeds([estimate(run) for run in runs], bounds))
