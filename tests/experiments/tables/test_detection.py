from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.detection import NEWCOMBE
from evaluation.statistics import STUDENT, Estimate
from experiments.results.result import write_result
from experiments.results.runs import Run
from experiments.tables.columns import SINGLE
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
CARD = {"needs": "images", "clean_samples": 512, "knows": "nothing"}
MODEL = {**CARD, "name": "decree", "of": "model", "score": 0.96, "threshold": 0.955,
         "flagged": True}  # fmt: skip
PAIRS = {**CARD, "name": "dao", "of": "pairs", "pairs": 100, "poisoned": 5,
         "auroc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 100},
         "average_precision": 0.4, "fpr_at_95_tpr": 0.3}  # fmt: skip
OF_PAIRS = ("poisoned_share", "auroc", "average_precision", "fpr_at_95_tpr")
OF_MODELS = ("detector", "flagged", "detection_score", "detection_threshold")
NOTHING = {**PAIRS, "poisoned": 0, "auroc": None, "average_precision": None, "fpr_at_95_tpr": None}


@pytest.fixture
def cells(result: Made, as_run: AsRun) -> Callable[..., dict[str, Any]]:
    """Return the cells of a row whose runs have these detections."""

    def read(*detections: dict[str, Any] | None) -> dict[str, Any]:
        runs = [
            as_run({**result(seed), "detection": found}) for seed, found in enumerate(detections)
        ]
        names = ("detector", "detected", "flagged", "detection_score", "detection_threshold",
                 "auroc", "average_precision", "fpr_at_95_tpr")  # fmt: skip
        return {name: SINGLE[name].read(runs) for name in names}

    return read


def test_a_detector_of_models_has_a_score_and_a_verdict(cells: Callable[..., Any]) -> None:
    found = cells(MODEL, {**MODEL, "score": 0.94, "flagged": False})
    assert (found["detector"], found["flagged"]) == ("decree", "1 of 2")
    assert found["detected"] == "flagged (0.960), not flagged (0.940)"
    assert found["detection_score"].value == pytest.approx(0.95)
    assert found["detection_threshold"] == Estimate(0.955)
    assert (found["auroc"], found["average_precision"]) == (None, None)


def test_a_detector_of_pairs_has_an_area(cells: Callable[..., Any]) -> None:
    found = cells(PAIRS)
    assert found["auroc"] == Estimate(0.9, 0.8, 0.95)
    assert (found["average_precision"], found["fpr_at_95_tpr"]) == (Estimate(0.4), Estimate(0.3))
    assert (found["detected"], found["flagged"]) == ("AUROC 90.0", None)
    assert cells(NOTHING)["auroc"] is None
    assert cells(NOTHING)["detected"] == "no poisoned pair"


def test_without_a_detector_all_is_a_gap(cells: Callable[..., Any]) -> None:
    found = cells(None)
    assert found.pop("detector") == "none"
    assert set(found.values()) == {None}


def _write(folder: Path, made: dict[str, Any], detection: dict[str, Any] | None, i: int) -> None:
    own = {} if detection is None else {"detection": detection}
    config = {"detector": None if detection is None else {"name": detection["name"]}}
    write_result(folder / f"run{i}", {**made, **own, "id": f"{i:08x}", "config": config})  # type: ignore[arg-type]


def test_the_table_tells_runs_by_their_detector(
    result: Made, tmp_path: Path, read: Callable[[str], list[dict[str, str]]]
) -> None:
    for i, detection in enumerate((None, MODEL, PAIRS)):
        _write(tmp_path, result(0, "none"), detection, i)
    rows = read(table(tmp_path, "md"))
    assert [(row["detector"], row["detected"]) for row in rows] == [
        ("-", "-"), ("dao", "AUROC 90.0"), ("decree", "flagged (0.960)"),
    ]  # fmt: skip
    assert all("variant" not in row for row in rows)
    (own,) = read(table(tmp_path, "md", ["detector=dao"]))
    assert own["detector"] == "dao"
    (none,) = read(table(tmp_path, "md", ["detector=none"]))
    assert "detector" not in none
    assert "detector,detected" not in table(tmp_path, "csv", ["detector=none"])


def test_an_experiment_over_detectors_has_a_row_for_each(
    result: Made, tmp_path: Path, plan: Callable[..., Path],
    read: Callable[[str], list[dict[str, str]]],
) -> None:  # fmt: skip
    jobs = []
    for i, detection in enumerate((None, MODEL, PAIRS)):
        _write(tmp_path, result(0, "none"), detection, i)
        name = "none" if detection is None else detection["name"]
        overrides = ["attack=badnet", "defense=none", f"detector={name}", "seed=0"]
        jobs.append({"overrides": overrides, "run": f"run{i}", "id": f"{i:08x}"})
    plan("t1_classification", "T1", jobs)
    rows = read(table(tmp_path, "md", experiment="T1"))
    assert [row["detector"] for row in rows] == ["none", "decree", "dao"]


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
