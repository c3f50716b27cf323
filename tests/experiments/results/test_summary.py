from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.results.measures import MEASURES
from experiments.results.summary import (
    before_and_after,
    describe,
    detection_cell,
    detection_line,
    target_line,
    verdict_line,
)

Made = Callable[..., dict[str, Any]]


def test_every_measure_has_a_row_with_the_three_models(result: Made) -> None:
    rows = before_and_after(result(asr=0.9))
    assert [row[0] for row in rows] == list(MEASURES)
    assert rows[1] == ["ASR", "1.0", "90.0", "2.0"]


@pytest.mark.parametrize(
    ("correct", "said"),
    [(True, "(correct)"), (False, "(wrong, it is lemon)"), (None, "(there is no backdoor)")],
)
def test_the_line_on_the_target_says_whether_it_is_right(
    result: Made, correct: bool | None, said: str
) -> None:
    made = result()
    made["identification"]["correct"] = correct
    assert target_line(made) == (
        f"target found: lemon {said}, gain +90.0 points; next key +10.0"
    )  # fmt: skip


def test_classes_that_are_the_same_to_the_model_are_all_named(result: Made) -> None:
    made = result()
    made["identification"]["alike"] = ["citron"]
    said = "target found: lemon, to the model the same as citron (correct), "
    assert target_line(made).startswith(said)


def test_a_defense_that_does_not_look_says_so(result: Made) -> None:
    made = {**result(), "identification": None}
    assert target_line(made) == "target: lemon; the defense does not look for it"
    made["attack"]["target_label"] = None
    assert target_line(made) == "target: none; the defense does not look for it"


VERDICT = {"kind": "clean", "p": 0.25, "alarm": 0.01, "clear": 0.1, "form": "mask", "lead": 0.05}


def test_a_verdict_has_its_thresholds(result: Made) -> None:
    assert verdict_line(result()) is None
    made = {**result(), "verdict": VERDICT}
    said = "verdict: clean (p = 0.25; backdoored up to 0.01, clean from 0.1 on)"
    assert verdict_line(made) == said
    made["scores"] = {**made["scores"], "purified": made["scores"]["backdoored"]}
    assert verdict_line(made) == said + "; the model is left as it is"
    assert describe(made).splitlines()[-1] == verdict_line(made)
    doubted = {**made, "verdict": {**VERDICT, "doubt": "all look alike"}}
    assert "from 0.1 on); all look alike" in (verdict_line(doubted) or "")
    assert target_line(made).endswith("lead 0.90; next key 0.10")
    repaired = {**made, "verdict": {**VERDICT, "kind": "backdoored", "p": 0.00012}}
    assert verdict_line(repaired) == (
        "verdict: backdoored (p = 0.00012; backdoored up to 0.01, clean from 0.1 on)"
    )


def test_the_lines_of_a_run_are_aligned(result: Made) -> None:
    first, head, *rows, last = describe(result(3)).splitlines()
    assert first == "rn50_mini, attack badnet, defense mine, seed 3"
    assert last.startswith("target found: ")
    assert len(rows) == len(MEASURES)
    assert {len(row) for row in rows} == {len(head)}


def test_a_summary_hides_nothing(result: Made) -> None:
    made = result()
    made["attack"]["name"] = "a\x1b[2J\nASR  0.0"
    made["identification"]["target_label"] = "b\u202e"
    lines = describe(made).split("\n")  # type: ignore[arg-type]
    assert all(line.isprintable() for line in lines)
    assert len(lines) == len(describe(result()).split("\n"))  # type: ignore[arg-type]


AREA = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 100}
OF_PAIRS = {"name": "dao", "of": "pairs", "pairs": 100, "poisoned": 5, "auroc": AREA,
            "average_precision": 0.4, "fpr_at_95_tpr": 0.3}  # fmt: skip
OF_MODEL = {"name": "decree", "of": "model", "score": 0.96, "threshold": 0.955, "flagged": True}


@pytest.mark.parametrize(
    ("detection", "cell", "line"),
    [
        (
            OF_MODEL, "flagged (0.960)",
            "detector decree: the model is flagged as backdoored (score 0.9600, threshold 0.9550)",
        ),
        (
            {**OF_MODEL, "score": 0.9, "flagged": False}, "not flagged (0.900)",
            "detector decree: the model is not flagged (score 0.9000, threshold 0.9550)",
        ),
        (
            OF_PAIRS, "AUROC 90.0",
            "detector dao: AUROC 90.0 [80.0, 95.0], average precision 40.0, 30.0 false alarms "
            "where 95 % are found; 5 of 100 pairs are poisoned",
        ),
        (
            {**OF_PAIRS, "poisoned": 0, "auroc": None}, "no poisoned pair",
            "detector dao: 0 of 100 pairs are poisoned, so there is nothing to tell apart",
        ),
        (None, None, None),
    ],
)  # fmt: skip
def test_a_detector_has_a_line_at_the_end(
    result: Made, detection: Any, cell: str | None, line: str | None
) -> None:
    made = {**result(), "detection": detection}
    assert (detection_cell(made), detection_line(made)) == (cell, line)
    last = describe(made).splitlines()[-1]
    assert last == line if line else "detector" not in describe(made)
