"""The table of one experiment: a row per cell of its sweeps."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from evaluation.statistics import Estimate
from experiments.results.runs import Run
from experiments.results.variants import differences, plain
from experiments.sweeps.sweep import Sweep
from experiments.tables.conditions import select
from experiments.tables.entries import Entry, find_entries, find_sweeps, known_id
from experiments.tables.gathered import gathered_entries
from experiments.tables.grid import Column, Grid, Value
from experiments.tables.layouts import METHODS, Layout, layout_of
from experiments.tables.methods import method_grid
from experiments.tables.pairs import comparable, others, p_values

_TESTS = (
    Column("p_ca", "p CA", form="probability"),
    Column("p_asr", "p ASR", form="probability"),
)


def experiment_grid(
    runs: Sequence[Run], sweeps: Sequence[Sweep], experiment: str, only: Sequence[str] = ()
) -> tuple[Grid, list[Entry]]:
    """Return the table of an experiment, and all runs that it asks for.

    Of a folder that has no sweep at all, as of results that somebody gathered, it takes every run.

    Args:
        runs: All runs below a folder.
        sweeps: All sweeps there.
        experiment: Its id or its preset.
        only: Conditions such as ``attack=badnet,sig``.

    Raises:
        ValueError: If there is no such experiment, no sweep of it or no run that meets the
            conditions, if its YAML is wrong, or if runs differ that would be one row.
    """
    if runs and not sweeps:
        name = known_id(experiment)
        layout, entries = layout_of(name), gathered_entries(runs, name)
    else:
        own, name = find_sweeps(sweeps, experiment)
        layout, entries = layout_of(name), find_entries(own, runs)
    if not entries:
        raise ValueError(f"the sweeps of {name} have no runs")
    entries = select(entries, only, lambda entry: {**entry.labels, "seed": entry.seed})
    if layout.rows == METHODS:
        return method_grid([entry.run for entry in entries if entry.run is not None]), entries
    return _grid(layout, entries), entries


def _grid(layout: Layout, entries: Sequence[Entry]) -> Grid:
    rows = _rows(entries)
    for cell in rows:
        _refuse_differences(cell)
    runs = [[entry.run for entry in _one_per_seed(cell) if entry.run] for cell in rows]
    measures = layout.measures([run for cell in runs for run in cell]) if any(runs) else []
    labels = [cell[0].labels for cell in rows]
    columns = [*_naming(labels), *(measure.column for measure in measures)]
    lines: list[list[Value]] = []
    for cell, own_runs in zip(rows, runs, strict=True):
        cells = [measure.read(own_runs) if own_runs else None for measure in measures]
        lines.append([*_names(cell, own_runs, columns), *cells])
    compared = len({own["defense"] for own in labels}) > 1
    if layout.paired and compared:
        columns += _TESTS
        for line, tests in zip(lines, p_values(labels, runs), strict=True):
            line.extend(tests)
    best = _best(columns, lines, labels, runs) if compared else frozenset()
    return Grid(columns, lines, best)


def _rows(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the entries of every row; numbers in order, names as the sweeps have them."""
    rows: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        rows[tuple(entry.labels.values())].append(entry)
    orders = [_order(column) for column in zip(*rows, strict=True)]
    places = {
        key: tuple(order[value] for order, value in zip(orders, key, strict=True)) for key in rows
    }
    return [
        sorted(rows[key], key=lambda entry: (len(entry.seed), entry.seed))
        for key in sorted(rows, key=places.__getitem__)
    ]


def _order(values: Sequence[str]) -> dict[str, int]:
    names = list(dict.fromkeys(values))
    with contextlib.suppress(ValueError):  # names stay in the order of the sweeps
        names.sort(key=float)
    return {name: i for i, name in enumerate(names)}


def _refuse_differences(cell: Sequence[Entry]) -> None:
    """Stop where runs of one row differ in anything but their seeds."""
    done = [(entry, entry.run) for entry in cell if entry.run is not None]
    if len(done) < 2:
        return
    found = differences([run.config for _, run in done], [run.seed for _, run in done])
    if not found:
        return
    key, values = next(iter(found.items()))
    other = next(i for i, value in enumerate(values) if value != values[0])
    first, second = ("the seed" if values[i] is None else str(values[i]) for i in (0, other))
    more = f" (and {len(found) - 1} more keys)" if len(found) > 1 else ""
    sweeps = dict.fromkeys(done[i][0].sweep.name for i in (0, other))
    raise ValueError(
        f"no mean of runs that differ in more than the seed: at {cell[0]}, {key} is {first} in "
        f"{done[0][0].job.run} and {second} in {done[other][0].job.run}{more}; the runs belong to "
        f"{', '.join(sweeps)}, so move one of them to another folder of runs"
    )


def _one_per_seed(cell: Sequence[Entry]) -> list[Entry]:
    done = [entry for entry in cell if entry.run is not None]
    return list({entry.seed: entry for entry in reversed(done)}.values())[::-1]


def _naming(labels: Sequence[Mapping[str, str]]) -> list[Column]:
    """Return the columns that name a row; a swept number is one in the table as well."""
    constant = len({own["data"] for own in labels}) == 1
    columns = [
        Column(
            name,
            name,
            form="given" if all(_number(own[name]) is not None for own in labels) else "text",
            where="csv" if name == "data" and constant else "all",
        )
        for name in labels[0]
    ]
    return [*columns, Column("target", "target", where="csv"), Column("seeds", "seeds")]


def _names(cell: Sequence[Entry], runs: Sequence[Run], columns: Sequence[Column]) -> list[Value]:
    """Return the cells of the first columns, those of `_naming`."""
    wanted = len({entry.seed for entry in cell})
    seeds = str(wanted) if len(runs) == wanted else f"{len(runs)} of {wanted}"
    labels = [
        _number(label) if column.numeric else label
        for column, label in zip(columns, cell[0].labels.values(), strict=False)
    ]
    return [*labels, runs[0].target if runs else None, seeds]


def _number(label: str) -> Estimate | None:
    """Return a label that is a number, written as the config has it."""
    try:
        value = float(label)
    except ValueError:
        return None
    return Estimate(value) if plain(value) == label else None


def _best(
    columns: Sequence[Column],
    lines: Sequence[Sequence[Value]],
    labels: Sequence[Mapping[str, str]],
    runs: Sequence[Sequence[Run]],
) -> frozenset[tuple[int, int]]:
    """Return the best cells among rows that differ in the defense alone, as they are printed."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, own in enumerate(labels):
        if own["defense"] != "none":
            groups[others(own)].append(i)
    alike = [group for group in groups.values() if comparable([runs[i] for i in group])]
    best = set()
    for j, column in enumerate(columns):
        if not column.best:
            continue
        choose = max if column.best == "highest" else min
        for group in alike:
            values = {
                i: round(value.value, 3)
                for i in group
                if isinstance(value := lines[i][j], Estimate)
            }
            best |= {(i, j) for i in values if values[i] == choose(values.values())}
    return frozenset(best)
