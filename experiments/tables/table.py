"""``invertune table``: one row per run and the mean over seeds, or the table of an experiment."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.statistics import Estimate, over_seeds
from experiments.results.measures import lookup, total_seconds
from experiments.results.result import load_results
from experiments.sweeps.sweep import Sweep, load_sweeps
from experiments.tables.experiment import experiment_grid
from experiments.tables.grid import GAP, Column, Grid, Value
from experiments.tables.parquet import write_parquet
from experiments.tables.variants import variants
from experiments.tables.writers import WRITERS, frame

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FORMATS = (*WRITERS, "parquet")
# Column -> model and measure of a share.
_SHARES = {
    "ca_clean": ("clean", "zero_shot/ca"),
    "ca_before": ("backdoored", "zero_shot/ca"),
    "ca_after": ("purified", "zero_shot/ca"),
    "asr_before": ("backdoored", "zero_shot/asr"),
    "asr_after": ("purified", "zero_shot/asr"),
    "target_rate_before": ("backdoored", "zero_shot/target_rate"),
    "own_class_before": ("backdoored", "zero_shot/own_class"),
    "own_class_after": ("purified", "zero_shot/own_class"),
    "r1_before": ("backdoored", "retrieval/image_to_text/r@1"),
    "r1_after": ("purified", "retrieval/image_to_text/r@1"),
    "retrieval_asr_before": ("backdoored", "retrieval/asr/r@1"),
    "retrieval_asr_after": ("purified", "retrieval/asr/r@1"),
}
_GROUP = ("data", "model", "attack", "target", "poison_rate", "defense")
_NAMES = (*_GROUP, "seed")


def _share(name: str, title: str, interval: bool = False) -> Column:
    return Column(name, title, form="percent", interval=interval)


_COLUMNS = (
    Column("data", "data", where="csv"),
    Column("model", "model"),
    Column("attack", "attack"),
    Column("target", "target", where="csv"),
    Column("poison_rate", "poison rate", where="csv"),
    Column("defense", "defense"),
    Column("variant", "variant", optional=True),
    Column("seed", "seed", form="integer"),
    _share("ca_clean", "CA clean"),
    _share("ca_before", "CA before"),
    _share("ca_after", "CA after"),
    _share("asr_before", "ASR before", interval=True),
    _share("asr_after", "ASR after", interval=True),
    _share("target_rate_before", "target rate before"),
    _share("own_class_before", "own class before"),
    _share("own_class_after", "own class after"),
    Column("found", "target found"),
    _share("r1_before", "R@1 before"),
    _share("r1_after", "R@1 after"),
    _share("retrieval_asr_before", "retrieval ASR before"),
    _share("retrieval_asr_after", "retrieval ASR after"),
    Column("seconds", "seconds", form="seconds"),
)


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
    results = load_results(runs_dir)
    if experiment is not None:
        grid, left = experiment_grid(results, load_sweeps(runs_dir), experiment, runs_dir, only)
        return _with_left(WRITERS[form](grid), left, form)
    results = _different(results)
    if not results:
        raise ValueError(f"no valid result.json of a run below {runs_dir}")
    if form == "parquet":
        return str(write_parquet(runs_dir, results, load_sweeps(runs_dir)))
    return WRITERS[form](with_means(_select([(row(result), result) for result in results], only)))


def experiment_frame(
    results: Sequence[Mapping[str, Any]],
    sweeps: Sequence[Sweep],
    experiment: str,
    runs_dir: Path,
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of an experiment as text, and what is left to run.

    Args:
        results: As `load_results` returns them.
        sweeps: As `load_sweeps` returns them.
        experiment: Its id or its preset.
        runs_dir: Folder of runs.

    Returns:
        Cells in percent under readable titles, the best between ``**`` and gaps ``-``; and a line
        per missing run, with the command that goes on at the end.

    Raises:
        ValueError: As `table` does.
    """
    grid, left = experiment_grid(results, sweeps, experiment, runs_dir)
    return frame(grid), left


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


def _different(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every run once, though its folder may have been copied."""
    parts = ("model", "attack", "defense")
    kept = {
        (result["id"], result["seed"], *(result[part]["name"] for part in parts)): result
        for result in reversed(results)
    }
    if len(kept) < len(results):
        log.warning("copies of runs are left out: %d", len(results) - len(kept))
    return list(reversed(kept.values()))


Row = tuple[dict[str, Value], Mapping[str, Any]]


def _select(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    kept = list(rows)
    for condition in only:
        name, _, values = condition.partition("=")
        if name not in _NAMES or not values:
            raise ValueError(
                f"{condition!r} is no condition; write NAME=VALUE[,VALUE] with NAME one of "
                f"{', '.join(_NAMES)}"
            )
        choices = sorted({str(cells[name]) for cells, _ in kept})
        kept = [row for row in kept if str(row[0][name]) in values.split(",")]
        if not kept:
            raise ValueError(f"no run has {condition}; choices: {', '.join(choices)}")
    return kept


def row(result: Mapping[str, Any]) -> dict[str, Value]:
    """Return the cells of one run; shares are in [0, 1]."""
    cells: dict[str, Value] = {
        "data": result["data"]["name"],
        "model": result["model"]["name"],
        "attack": result["attack"]["name"],
        "target": result["attack"]["target_label"] or "",
        "poison_rate": str(float(result["attack"]["poison_rate"] or 0)),
        "defense": result["defense"]["name"],
        "seed": str(result["seed"]),
    }
    for column, (model, measure) in _SHARES.items():
        rate = lookup(result["scores"][model], measure)
        if rate is not None:
            cells[column] = Estimate(float(rate["value"]), float(rate["low"]), float(rate["high"]))
    return {**cells, "found": _found(result), "seconds": Estimate(total_seconds(result))}


def _found(result: Mapping[str, Any]) -> str:
    found = result["identification"]
    if found is None:
        return GAP
    verdict = {True: " (ok)", False: " (wrong)", None: ""}[found["correct"]]
    return f"{found['target_label']}{verdict}"


def with_means(rows: Sequence[Row]) -> Grid:
    """Return the runs in order, with a row of means below each group of several seeds.

    Runs that differ in more than the seed are groups of their own, named in column ``variant``.
    """
    groups: dict[tuple[Value, ...], list[Row]] = defaultdict(list)
    for cells, result in rows:
        groups[tuple(cells[name] for name in _GROUP)].append((cells, result))
    lines: list[dict[str, Value]] = []
    for _, group in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        group.sort(key=lambda row: row[1]["seed"])
        names = variants(
            [result["config"] for _, result in group], [result["seed"] for _, result in group]
        )
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
    seconds = over_seeds([_estimate(cells, "seconds") for cells in group])
    return {
        **{name: group[0][name] for name in (*_GROUP, "variant")},
        **{name: over_seeds([_estimate(cells, name) for cells in group]) for name in _SHARES},
        "seed": f"mean of {len(group)}",
        "found": f"{right} of {len(verdicts)} ok" if verdicts else GAP,
        "seconds": seconds,
    }


def _estimate(cells: Mapping[str, Value], name: str) -> Estimate | None:
    value = cells.get(name)
    return value if isinstance(value, Estimate) else None
