from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.results.measures import MODELS
from experiments.results.runs import Run
from experiments.tables.columns import GROUPS, SHARES, SINGLE, recall

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]


@pytest.mark.parametrize("name", SINGLE)
def test_a_column_is_found_by_the_name_it_has_in_csv(
    name: str, result: Made, as_run: AsRun
) -> None:
    column = SINGLE[name].column
    assert column.name == name
    value = SINGLE[name].read([as_run(result())])
    assert value is None or column.numeric == isinstance(value, Estimate)


@pytest.mark.parametrize("name", GROUPS)
def test_no_column_of_a_group_has_the_name_of_another(
    name: str, result: Made, as_run: AsRun
) -> None:
    names = [measure.column.name for measure in GROUPS[name]([as_run(result())])]
    assert not set(names) & set(SINGLE)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", SHARES)
def test_every_share_is_measured_in_a_whole_result(name: str, result: Made, as_run: AsRun) -> None:
    share = SHARES[name]
    assert share.model in MODELS
    read = share.read(as_run(result(asr=0.9)))
    assert read is not None
    if name == "asr_before":
        assert read == Estimate(0.9, 0.8, 1.0)


def test_the_loss_of_ca_is_before_less_after(result: Made, as_run: AsRun) -> None:
    made = result()
    made["scores"]["backdoored"]["zero_shot"]["ca"]["value"] = 0.875
    assert SINGLE["ca_loss"].read([as_run(made)]) == Estimate(0.125)
    made["scores"]["purified"] = None
    assert SINGLE["ca_loss"].read([as_run(made)]) is None


def test_retrieval_says_both_ways_at_every_k(result: Made, as_run: AsRun) -> None:
    runs = [as_run(result())]
    cells = {measure.column.name: measure.read(runs) for measure in recall(runs)}
    assert cells["R@5, R@10 image to text after"] == "70.0, 80.0"
    assert {f"text_to_image_r{k}_before" for k in (1, 5, 10)} <= set(cells)
    best = {measure.column.name for measure in recall(runs) if measure.column.best}
    assert best == {"image_to_text_r1_after", "text_to_image_r1_after"}
