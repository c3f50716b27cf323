"""Results that somebody gathered in a folder, without the plans of the sweeps that made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from experiments.results.measures import lookup
from experiments.results.runs import Run, different
from experiments.results.variants import variants
from experiments.sweeps.sweep import Job, Sweep, planned_stages
from experiments.tables.entries import GROUPS, Entry
from experiments.tables.pairs import BUDGET

_OPTIONAL = ("detector", BUDGET, "variant")  # a label where runs differ in it


def gathered_entries(runs: Sequence[Run], experiment: str) -> list[Entry]:
    """Return runs as if one sweep had asked for just these, in their order.

    A row is told by ``data``, ``model``, ``attack`` and ``defense``, and by ``detector``,
    ``budget`` and ``variant`` where there are several: the variant says what else of the config is
    special, as in the table of all runs.

    Args:
        runs: All runs below a folder.
        experiment: The id under which they are shown.
    """
    runs = different(runs)
    named = [_names(run) for run in runs]
    rows: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, own in enumerate(named):
        rows[tuple(own.values())].append(i)
    for row in rows.values():
        words = variants([runs[i].config for i in row], [runs[i].seed for i in row])
        for i, word in zip(row, words, strict=True):
            named[i]["variant"] = word
    shown = {
        name: name not in _OPTIONAL or len({own[name] for own in named} - {""}) > 1
        or (name == "variant" and any(own[name] for own in named))
        for name in named[0]
    }  # fmt: skip
    jobs = [Job([], run.folder.name, run.id, planned_stages(run.result)) for run in runs]
    sweep = Sweep(experiment, experiment, "", {}, jobs, [])
    return [
        Entry(sweep, job, {name: own[name] for name in own if shown[name]}, str(run.seed), run,
              outdated=False)
        for run, job, own in zip(runs, jobs, named, strict=True)
    ]  # fmt: skip


def _names(run: Run) -> dict[str, str]:
    budget = lookup(run.config, f"{BUDGET}/name")
    return {
        **{str(part): run.name(part) for part in GROUPS},
        BUDGET: str(budget or ""),  # results from before there was any have none
        "variant": "",
    }
