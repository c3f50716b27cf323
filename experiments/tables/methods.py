"""The table of an experiment on detection: a row per method, over all models that it judges."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.statistics import Estimate
from experiments.results.alarms import Method, methods
from experiments.results.runs import Run
from experiments.sweeps.sweep import Sweep
from experiments.tables.grid import Column, Grid, Value

_COLUMNS = (
    Column("method", "method"),
    Column("backdoored", "backdoored models", form="integer"),
    Column("clean", "clean models", form="integer"),
    Column("auroc", "AUROC", form="percent", interval=True),
    Column("found", "found at its threshold", form="percent", interval=True),
    Column("false_alarms", "false alarms there", form="percent", interval=True),
    Column("fpr_at_95_tpr", "false alarms where 95 % are found", form="percent"),
)


def judged_runs(runs: Sequence[Run], sweeps: Sequence[Sweep], experiment: str) -> list[Run]:
    """Return the runs of an experiment's sweeps; all of a folder that has no sweep.

    Args:
        runs: All runs below a folder.
        sweeps: All sweeps there.
        experiment: Its id.
    """
    if not sweeps:  # results that somebody gathered
        return list(runs)
    own = {job.id for sweep in sweeps if sweep.experiment == experiment for job in sweep.jobs}
    return [run for run in runs if run.id in own]


def method_grid(runs: Sequence[Run]) -> Grid:
    """Return the table of what methods say of the models of some runs.

    Raises:
        ValueError: If a method says two different things of one model.
    """
    return Grid(_COLUMNS, [_row(one) for one in methods(runs)])


def _row(method: Method) -> list[Value]:
    return [
        method.name,
        Estimate(method.backdoored),
        Estimate(method.clean),
        method.auroc,
        method.found,
        method.false_alarms,
        method.fpr_at_95_tpr,
    ]
