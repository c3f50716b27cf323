"""InverTune against every other defense, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evaluation.statistics import Estimate, mcnemar
from experiments.config import MORE_CLEAN, STAGES
from experiments.results.left import Predictions
from experiments.results.runs import Run
from experiments.results.variants import differences
from experiments.tables.grid import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE = "invertune"
BUDGET = "budget"  # a group of the config: how many clean images a defense gets
# What a key of the config is of -> why runs that differ there are not compared.
_REASONS = {
    "attack.target_label": "other target",
    "attack": "other poison",
    "data": "other data",
    "model": "other model",
    "evaluation": "other evaluation",
}
Pair = tuple[Predictions, Predictions]


def p_values(
    labels: Sequence[Mapping[str, str]], runs: Sequence[Sequence[Run]]
) -> list[tuple[Value, Value]]:
    """Return p of McNemar's exact test against InverTune, for CA and for ASR, per row.

    Rows are compared that differ in the defense alone, or in the budget as well where InverTune has
    no row with theirs; the counts of discordant test images are summed over the seeds that both
    have. Where a test would be over other images, another target, poison or data, its cell says so;
    None where there is nothing to compare.

    Args:
        labels: Names of every row, ``defense`` among them.
        runs: Runs of every row, one per seed.
    """
    references = [
        (own, cell) for own, cell in zip(labels, runs, strict=True) if own["defense"] == REFERENCE
    ]
    exact = {others(own): cell for own, cell in references}
    any_budget = {others(own, BUDGET): cell for own, cell in references if any(cell)}
    return [
        (None, None)
        if own["defense"] == REFERENCE or not references
        else _compare(exact.get(others(own)) or any_budget.get(others(own, BUDGET), []), cell)
        for own, cell in zip(labels, runs, strict=True)
    ]


def others(labels: Mapping[str, str], *but: str) -> tuple[str, ...]:
    """Return what names a row apart from its defense and from these names."""
    return tuple(value for key, value in labels.items() if key not in ("defense", *but))


def _compare(first: Sequence[Run], second: Sequence[Run]) -> tuple[Value, Value]:
    if not first or not second:
        missing = f"no run of {REFERENCE}" if not first else None
        return missing, missing
    seconds = {run.seed: run for run in second}
    shared = [(run, seconds[run.seed]) for run in first if run.seed in seconds]
    found = [why_not(run, other) or _predictions(run, other) for run, other in shared]
    reasons = [one for one in found if isinstance(one, str)]
    if reasons or not found:
        reason = reasons[0] if reasons else "no common seed"
        return reason, reason
    pairs = [one for one in found if not isinstance(one, str)]
    every = {run.seed for run in (*first, *second)}
    note = "" if len(pairs) == len(every) else f"{len(pairs)} of {len(every)} seeds"
    hits = [
        (own.hit, other.hit) for own, other in pairs
        if own.hit is not None and other.hit is not None
    ]  # fmt: skip
    right = _pooled([(own.correct, other.correct) for own, other in pairs], note)
    return right, _pooled(hits, note) if len(hits) == len(pairs) else "no trigger"


def comparable(rows: Sequence[Sequence[Run]]) -> bool:
    """Return whether all rows show the same target, poison and data, as far as seeds are shared."""
    first: dict[int, Run] = {}
    return all(
        why_not(first.setdefault(run.seed, run), run) is None for runs in rows for run in runs
    )


def why_not(first: Run, second: Run) -> str | None:
    """Return why two runs do not show two defenses the same thing; None where they do."""
    if first.target != second.target:
        return _REASONS["attack.target_label"]
    keys = differences([first.config, second.config])
    found = [key for key in keys if STAGES not in key and key != f"data.{MORE_CLEAN}"]
    for place, reason in _REASONS.items():
        if any(f"{key}.".startswith(f"{place}.") for key in found):
            return reason
    made = [run.result.get("stages", {}).get("implant") for run in (first, second)]
    # The same config, but other code: the backdoor is not quite the same.
    return "other implant" if None not in made and made[0] != made[1] else None


def _predictions(first: Run, second: Run) -> Pair | str:
    own, other = first.predictions, second.predictions
    if own is None or other is None:
        return "no predictions"
    return (own, other) if own.same_images(other) else "other images"


def _pooled(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], note: str) -> Estimate:
    first_only = sum(int((own & ~other).sum()) for own, other in pairs)
    second_only = sum(int((other & ~own).sum()) for own, other in pairs)
    return Estimate(mcnemar(first_only, second_only), note=note)
