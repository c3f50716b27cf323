from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.report.details import details_of, rates_of, rows_of
from experiments.results.measures import MEASURES, MODELS
from experiments.results.runs import load_runs

Write = Callable[..., dict[str, Any]]


def test_a_run_is_told_from_others_of_its_name_by_what_is_special(
    tmp_path: Path, write_run: Write, data_config: Write, read_page: Callable[..., Any]
) -> None:
    for number, steps in ((1, 10), (2, 10), (3, 20)):
        tune = {"steps": steps, "weight": number / 2, "seed": number}
        config = {"seed": number, "data": data_config(), "defense": {"tune": tune}}
        write_run(tmp_path, number, data_config(), config=config)
    names = ["weight=0.5", "weight=1", "steps=20, weight=1.5"]
    assert [row.variant for row in rows_of(load_runs(tmp_path))] == names
    page = read_page()
    for name in names:  # in the table and above details
        assert len(re.findall(rf"(?<!, ){name}\s", page.text)) == 2
    assert "steps=10" not in page.text


def test_a_detector_is_on_the_page(
    tmp_path: Path, write_run: Write, data_config: Write, read_page: Callable[..., Any],
    leave: Callable[..., str],
) -> None:  # fmt: skip
    detection = {
        "name": "decree",
        "of": "model",
        "needs": "images",
        "clean_samples": 512,
        "knows": "nothing",
        "score": 0.96,
        "threshold": 0.955,
        "flagged": True,
    }
    write_run(tmp_path, 1, data_config(), config={"detector": None})
    own = {"detector": {"name": "decree"}}
    write_run(tmp_path, 2, data_config(), config=own, detection=detection)
    plain, asked = rows_of(load_runs(tmp_path))
    assert (plain.variant, asked.variant) == ("", "")
    assert (plain.detected, asked.detected) == (None, "flagged (0.960)")
    page = read_page()
    assert "decree: flagged (0.960)" in page.text
    said = "detector decree: the model is flagged as backdoored (score 0.9600, threshold 0.9550)"
    assert page.text.count(said) == 1


def test_runs_of_other_names_are_not_compared(
    tmp_path: Path, write_run: Write, data_config: Write
) -> None:
    defense = {"name": "other", "clean_samples": 1, "knows": "nothing"}
    write_run(tmp_path, 1, data_config(), config={"a": 1})
    write_run(tmp_path, 2, data_config(), config={"a": 2}, defense=defense)
    assert [row.variant for row in rows_of(load_runs(tmp_path))] == ["", ""]


def test_details_have_what_the_stages_left(
    tmp_path: Path, write_run: Write, data_config: Write
) -> None:
    result = write_run(tmp_path, 1, data_config())
    (run,) = load_runs(tmp_path)
    details = details_of(run, 2, [])
    assert list(details.charts) == [
        "Before and after",
        "Step 1: predicted classes under universal perturbations",
        "Step 3: activation divergence per layer",
        "Losses",
    ]
    assert len(details.pictures) == 5
    assert details.stages["purify"] == (result["stages"]["purify"], True)
    assert "image_size: 16" in details.config
    assert details_of(run, 0, []).pictures == []


def test_every_measure_has_a_rate_per_model(
    tmp_path: Path, write_run: Write, data_config: Write
) -> None:
    write_run(tmp_path, 1, data_config())
    rates = rates_of(load_runs(tmp_path)[0])
    assert list(rates) == list(MEASURES)
    assert all(tuple(own) == MODELS for own in rates.values())
    measured = rates["ASR"]["backdoored"]
    assert measured is not None
    assert (measured["value"], measured["n"]) == (0.93, 400)
