from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from evaluation.detection import auroc_interval
from evaluation.statistics import counted
from experiments.results.alarms import Method, methods
from experiments.results.runs import Run

Suspected = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
# Number, whether it is backdoored, InverTune's p, and the score of a detector.
MODELS = ((0, True, 1e-8, 0.9), (1, True, 0.0, 0.4), (2, True, 0.5, 0.7), (3, False, 0.9, 0.6),
          (4, False, 0.8, 0.1))  # fmt: skip


@pytest.fixture
def judged(suspected: Suspected, as_run: AsRun) -> Callable[..., dict[str, Method]]:
    def made(models: Sequence[tuple[int, bool, float, float]] = MODELS) -> dict[str, Method]:
        found = methods([as_run(suspected(*model)) for model in models])
        return {one.name: one for one in found}

    return made


def test_every_score_of_a_result_is_a_method(judged: Callable[..., dict[str, Method]]) -> None:
    found = judged()
    assert list(found) == ["invertune: verdict", "invertune: step 1", "decree"]
    assert all((one.backdoored, one.clean, one.compares) == (3, 2, True) for one in found.values())
    verdict = found["invertune: verdict"]
    assert [one.score for one in verdict.judged][:3] == pytest.approx(
        [8, math.inf, -math.log10(0.5)]
    )
    assert [found[name].threshold for name in found] == pytest.approx([2.0, None, 0.5])
    assert [found[name].score for name in found] == ["-log10 of p", "gain or lead", "score"]


def test_areas_and_alarms_are_those_counted_by_hand(
    judged: Callable[..., dict[str, Method]],
) -> None:
    found = judged()
    verdict, step, decree = (found[name] for name in found)
    for one in (verdict, step):
        assert one.auroc is not None
        assert (one.auroc.value, one.auroc.low) == (1.0, auroc_interval(1.0, 3, 2)[0])
    # Of six pairs of a backdoored and a clean model, 0.4 loses against 0.6.
    assert decree.auroc is not None
    assert decree.auroc.value == pytest.approx(5 / 6)
    assert (verdict.found, decree.found) == (counted(2 / 3, 3), counted(2 / 3, 3))
    assert (verdict.false_alarms, decree.false_alarms) == (counted(0, 2), counted(1 / 2, 2))
    assert (step.found, step.false_alarms) == (None, None)
    assert decree.fpr_at_95_tpr is not None
    assert decree.fpr_at_95_tpr.value == 0.5


def test_models_of_one_kind_have_no_curve(judged: Callable[..., dict[str, Method]]) -> None:
    one = judged(MODELS[:3])["decree"]
    assert not one.compares
    assert (one.roc, one.auroc, one.fpr_at_95_tpr, one.false_alarms) == (None,) * 4
    assert one.found == counted(2 / 3, 3)


def test_a_model_of_several_runs_is_judged_once(suspected: Suspected, as_run: AsRun) -> None:
    first, again = suspected(0, True, 1e-8), suspected(0, True, 1e-8, 0.9)
    (verdict, _, decree) = methods([as_run(first), as_run({**again, "id": "another"})])
    assert len(verdict.judged) == len(decree.judged) == 1
    other = suspected(0, True, 1e-7)
    with pytest.raises(ValueError, match=r"^invertune: verdict says two things of one model"):
        methods([as_run(first), as_run(other)])


def test_another_threshold_for_every_model_is_none(suspected: Suspected, as_run: AsRun) -> None:
    runs = [as_run(suspected(i, True, 0.5, 0.9, limit)) for i, limit in enumerate((0.5, 0.6))]
    assert methods(runs)[-1].threshold is None


def test_what_says_nothing_is_no_method(result: Callable[..., Any], as_run: AsRun) -> None:
    silent = {**result(), "identification": None, "verdict": None, "detection": None}
    of_pairs = {**silent, "detection": {"of": "pairs", "name": "dao"}}
    assert methods([as_run(silent), as_run(of_pairs)]) == []
