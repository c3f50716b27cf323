from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.statistics import UNBOUNDED, Estimate
from experiments.results.runs import Run
from experiments.tables.grid import Column
from experiments.tables.measure import per_seed


def test_a_number_per_seed_is_a_mean_with_an_interval_inside_its_bounds(
    result: Callable[..., dict[str, Any]], as_run: Callable[..., Run]
) -> None:
    runs = [as_run(result(seed)) for seed in (0, 1, 2)]

    def tenths(run: Run) -> Estimate | None:
        return Estimate((run.seed + 1) / 10) if run.seed < 2 else None

    mean = per_seed(Column("x", "x"), tenths).read(runs)
    # 0.1 and 0.2: mean 0.15, standard error 0.05, and t at one degree is 12.7062.
    assert isinstance(mean, Estimate)
    assert (mean.value, mean.low) == (pytest.approx(0.15), 0.0)
    assert mean.high == pytest.approx(0.15 + 0.05 * 12.7062, abs=1e-4)
    free = per_seed(Column("x", "x"), tenths, UNBOUNDED).read(runs)
    assert isinstance(free, Estimate)
    assert free.low == pytest.approx(0.15 - 0.05 * 12.7062, abs=1e-4)
    assert per_seed(Column("x", "x"), lambda _: None).read(runs) is None
