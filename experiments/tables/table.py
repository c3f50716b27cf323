"""``invertune table``: one row per run and the mean over seeds, or the table of an experiment."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.statistics import UNBOUNDED, Estimate, over_seeds
from experiments.results.measures import total_seconds
from experiments.results.runs import Run, different, load_runs
from experiments.results.summary import detection_cell
from experiments.results.variants import variants
from experiments.sweeps.sweep import load_sweeps
from experiments.tables.columns import SHARES
from experiments.tables.conditions import select
from experiments.tables.entries import left_lines
from experiments.tables.experiment import experiment_grid
from experiments.tables.grid import GAP, Column, Grid, Value
from experiments.tables.parquet import write_parquet
from experiments.tables.writers import WRITERS

log = logging.getLogger(__name__)

FORMATS = (*WRITERS, "parquet")
_GROUP = ("data", "model", "attack", "target", "poison_rate", "defense", "detector")
_NAMES = (*_GROUP, "seed")
NONE = "none"


def _shares(*names: str) -> list[Column]:
    """Return columns of shares; the intervals of all of them would not fit on a page."""
    return [
        Column(name, SHARES[name].title, form="percent", interval=name.startswith("asr"))
        for name in names
    ]


_COLUMNS = (
    Column("data", "data", where="csv"),
    Column("model", "model"),
    Column("attack", "attack"),
    Column("target", "target", where="csv"),
    Column("poison_rate", "poison rate", where="csv"),
    Column("defense", "defense"),
    Column("detector", "detector", optional=True),
    Column("variant", "variant", optional=True),
    Column("seed", "seed", form="integer"),
    *_shares("ca_clean", "ca_before", "ca_after", "asr_before", "asr_after", "target_rate_before",
             "own_class_before", "own_class_after"),
    Column("found", "target found"),
    *_shares("r1_before", "r1_after", "retrieval_asr_before", "retrieval_asr_after"),
    Column("detected", "detected", optional=True),
    Column("seconds", "seconds", form="seconds"),
)  # fmt: skip
_MEASURED = tuple(column.name for column in _COLUMNS if column.name in SHARES)


def table(
    runs_dir: Path, form: str, only: Sequence[str] = (), experiment: str | None = None
) -> str:
    """Return the table of all runs below a folder, or of an experiment's.

    Args:
        runs_dir: Folder of runs.
        form: ``md`` or ``latex``, in percent; ``csv``, in shares; or ``parquet``, which writes
            ``results.parquet`` with all of every result into the folder and returns its path.
        only: Conditions such as ``defense=invertune,none``; a run has to meet all of them.
        experiment: Its id, such as ``T1``, or its preset, such as ``t1_classification``.

    Raises:
        ValueError: If there is no such folder, no valid result in it, no run that meets the
            conditions, no such form, condition or experiment, no sweep of the experiment, or if
            runs differ that would be one row.
    """
    if form not in FORMATS:
        raise ValueError(f"format is one of {', '.join(FORMATS)}, got {form!r}")
    if form == "parquet" and (only or experiment is not None):
        raise ValueError("format parquet has everything of every run: leave out the conditions")
    runs = load_runs(runs_dir)
    if experiment is not None:
        grid, entries = experiment_grid(runs, load_sweeps(runs_dir), experiment, only)
        return _with_left(WRITERS[form](grid), left_lines(entries, runs_dir), form)
    runs = different(runs)
    if not runs:
        raise ValueError(f"no valid result.json of a run below {runs_dir}")
    if form == "parquet":
        return str(write_parquet(runs_dir, runs, load_sweeps(runs_dir)))
    rows = [(row(run), run) for run in runs]
    return WRITERS[form](with_means(select(rows, only, _labels)))


def _labels(row: Row) -> dict[str, str]:
    return {name: str(row[0][name] or NONE) for name in _NAMES}


def _with_left(text: str, left: Sequence[str], form: str) -> str:
    """Say below the table what is missing; csv stays csv, so there it is a warning."""
    if form == "csv":
        for line in left:
            log.warning("%s", line)
        return text
    if not left:
        return text
    sign = "% " if form == "latex" else ""
    return "\n".join([text, "", *(sign + line for line in left)])


Row = tuple[Mapping[str, Value], Run]


def row(run: Run) -> dict[str, Value]:
    """Return the cells of one run; shares are in [0, 1]."""
    attack = run.result["attack"]
    cells: dict[str, Value] = {
        "data": run.name("data"),
        "model": run.name("model"),
        "attack": run.name("attack"),
        "target": run.target or "",
        "poison_rate": str(float(attack["poison_rate"] or 0)),
        "defense": run.name("defense"),
        # A gap where there is none: without any detector there is no such column.
        "detector": None if run.name("detector") == NONE else run.name("detector"),
        "seed": str(run.seed),
    }
    shares = {name: SHARES[name].read(run) for name in _MEASURED}
    seconds = Estimate(total_seconds(run.result))
    said = {"found": _found(run), "detected": detection_cell(run.result)}
    return {**cells, **shares, **said, "seconds": seconds}


def _found(run: Run) -> str:
    found = run.result["identification"]
    if found is None:
        return GAP
    verdict = {True: " (ok)", False: " (wrong)", None: ""}[found["correct"]]
    return f"{found['target_label']}{verdict}"


def with_means(rows: Sequence[Row]) -> Grid:
    """Return the runs in order, with a row of means below each group of several seeds.

    Runs that differ in more than the seed are groups of their own, named in column ``variant``.
    """
    groups: dict[tuple[Value, ...], list[Row]] = defaultdict(list)
    for cells, run in rows:
        groups[tuple(cells[name] for name in _GROUP)].append((cells, run))
    lines: list[dict[str, Value]] = []
    for _, group in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        group.sort(key=lambda row: row[1].seed)
        names = variants([run.config for _, run in group], [run.seed for _, run in group])
        for name in sorted(set(names)):
            alike = [
                {**cells, "variant": name}
                for (cells, _), own in zip(group, names, strict=True)
                if own == name
            ]
            lines += alike
            seeds = {str(cells["seed"]): cells for cells in reversed(alike)}
            if len(seeds) > 1:
                lines.append(_mean(list(seeds.values())))
    return Grid(_COLUMNS, [[line.get(column.name) for column in _COLUMNS] for line in lines])


def _mean(group: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    verdicts = [str(cells["found"]) for cells in group if cells["found"] != GAP]
    right = sum(verdict.endswith("(ok)") for verdict in verdicts)
    seconds = over_seeds([_estimate(cells, "seconds") for cells in group], UNBOUNDED)
    return {
        **{name: group[0][name] for name in (*_GROUP, "variant")},
        **{name: over_seeds([_estimate(cells, name) for cells in group]) for name in _MEASURED},
        "seed": f"mean of {len(group)}",
        "found": f"{right} of {len(verdicts)} ok" if verdicts else GAP,
        "seconds": seconds,
    }


def _estimate(cells: Mapping[str, Value], name: str) -> Estimate | None:
    value = cells.get(name)
    return value if isinstance(value, Estimate) else None
