"""InverTune against every other defense, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evaluation.statistics import mcnemar
from experiments.results.runs import Predictions, Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE = "invertune"
P = float | None


def p_values(
    labels: Sequence[Mapping[str, str]], runs: Sequence[Sequence[Run]]
) -> list[tuple[P, P]]:
    """Return p of McNemar's exact test against InverTune, for CA and for ASR, per row.

    Rows are compared that differ in the defense alone; the counts of discordant test images are
    summed over the seeds that both have. None where there is nothing to compare.

    Args:
        labels: Names of every row, ``defense`` among them.
        runs: Runs of every row, one per seed.
    """
    references = {
        others(own): cell
        for own, cell in zip(labels, runs, strict=True)
        if own["defense"] == REFERENCE
    }
    return [
        (None, None)
        if own["defense"] == REFERENCE
        else _compare(references.get(others(own), []), cell)
        for own, cell in zip(labels, runs, strict=True)
    ]


def others(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return what names a row apart from its defense."""
    return tuple(value for key, value in labels.items() if key != "defense")


def _compare(first: Sequence[Run], second: Sequence[Run]) -> tuple[P, P]:
    seconds = {run.seed: run for run in second}
    pairs = [
        (run.predictions, seconds[run.seed].predictions) for run in first if run.seed in seconds
    ]
    same = [
        (own, other)
        for own, other in pairs
        if own is not None and other is not None and own.same_images(other)
    ]
    return _pooled([(own.correct, other.correct) for own, other in same]), _pooled(_hits(same))


def _hits(
    pairs: Sequence[tuple[Predictions, Predictions]],
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    return [
        (own.hit, other.hit)
        for own, other in pairs
        if own.hit is not None and other.hit is not None
    ]


def _pooled(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> P:
    if not pairs:
        return None
    first_only = sum(int((own & ~other).sum()) for own, other in pairs)
    second_only = sum(int((other & ~own).sum()) for own, other in pairs)
    return mcnemar(first_only, second_only)
