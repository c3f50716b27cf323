from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.results.runs import Run
from experiments.tables.paper import Reported, reported

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("attack", "fits"),
    [("badclip", True), ("badclip_mixed", True), ("badclips", False), ("bad", False)],
)
def test_a_name_stands_for_its_variants(
    result: Made, as_run: AsRun, attack: str, fits: bool
) -> None:
    made = result()
    made["attack"]["name"] = attack
    assert Reported({"attack": "badclip"}, {}).fits(as_run(made)) == fits


def test_all_of_a_case_has_to_fit(result: Made, as_run: AsRun) -> None:
    run = as_run(result(defense="invertune"))
    assert Reported({"model": "rn50", "defense": "invertune", "target": "lemon"}, {}).fits(run)
    assert not Reported({"model": "rn101", "defense": "invertune"}, {}).fits(run)


def test_a_run_without_a_target_is_of_no_targets_case(result: Made, as_run: AsRun) -> None:
    made = result()
    made["attack"]["target_label"] = None
    assert not Reported({"target": "lemon"}, {}).fits(as_run(made))


def test_the_first_case_that_fits_and_has_the_number_counts(result: Made, as_run: AsRun) -> None:
    runs = [as_run(result())]
    cases = [
        Reported({"model": "rn50"}, {"other": Estimate(1.0)}),
        Reported({"attack": "badnet"}, {"asr_percent": "> 15"}),
        Reported({"model": "rn50"}, {"asr_percent": Estimate(2.0)}),
    ]
    measure = reported("asr_percent", "paper: ASR", cases)
    assert measure.read(runs) == "> 15"
    assert (measure.column.name, measure.column.optional) == ("paper_asr_percent", True)
    assert reported("asr_percent", "x", cases[:1]).read(runs) is None
