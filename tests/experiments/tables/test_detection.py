from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.detection import NEWCOMBE
from evaluation.statistics import STUDENT, Estimate
from experiments.results.runs import Run
from experiments.tables.columns import SINGLE

OF_PAIRS = ("poisoned_share", "auroc", "average_precision", "fpr_at_95_tpr")
OF_MODELS = ("detector", "flagged", "detection_score", "detection_threshold")


@pytest.fixture
def scored(result: Callable[..., Any], as_run: Callable[..., Run]) -> Callable[..., Run]:
    def made(seed: int, area: float) -> Run:
        detection = {
            "name": "dao", "of": "pairs", "pairs": 200, "poisoned": 20, "fpr_at_95_tpr": 0.4,
            "auroc": {"value": area, "low": area - 0.1, "high": area + 0.1, "n": 200},
            "average_precision": 0.3,
        }  # fmt: skip
        return as_run({**result(seed), "detection": detection})

    return made


def test_pairs_of_one_run_have_its_own_interval(scored: Callable[..., Run]) -> None:
    cells = [SINGLE[name].read([scored(0, 0.8)]) for name in OF_PAIRS]
    assert cells[0] == Estimate(0.1)
    area = cells[1]
    assert isinstance(area, Estimate)
    assert (area.value, area.low, area.high) == pytest.approx((0.8, 0.7, 0.9))
    assert area.interval == NEWCOMBE
    assert cells[2:] == [Estimate(0.3), Estimate(0.4)]


def test_areas_of_several_seeds_are_not_thrown_together(scored: Callable[..., Run]) -> None:
    area = SINGLE["auroc"].read([scored(0, 0.8), scored(1, 0.6)])
    assert isinstance(area, Estimate)
    assert area.value == pytest.approx(0.7)
    assert area.interval == STUDENT


def test_a_set_without_poisoned_pairs_has_gaps(
    result: Callable[..., Any], as_run: Callable[..., Run]
) -> None:
    clean = {"name": "dao", "of": "pairs", "pairs": 200, "poisoned": 0, "auroc": None,
             "average_precision": None, "fpr_at_95_tpr": None}  # fmt: skip
    run = as_run({**result(), "detection": clean})
    assert [SINGLE[name].read([run]) for name in OF_PAIRS] == [Estimate(0.0), None, None, None]
    assert [SINGLE[name].read([as_run(result())]) for name in OF_PAIRS] == [None] * 4


def test_models_are_counted_by_their_flags(
    suspected: Callable[..., Any], as_run: Callable[..., Run]
) -> None:
    runs = [as_run(suspected(i, True, 0.5, score)) for i, score in enumerate((0.9, 0.7, 0.4))]
    cells = [SINGLE[name].read(runs) for name in OF_MODELS]
    assert cells[:2] == ["decree", "2 of 3"]
    assert isinstance(cells[2], Estimate)
    assert cells[2].value == pytest.approx(2 / 3)
    assert cells[3] == Estimate(0.5)
    assert [SINGLE[name].read(runs) for name in OF_PAIRS] == [None] * 4
