from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from evaluation.intervals import rate
from experiments.figures.colors import ALARM, PLAIN, REPAIRED
from experiments.report import diagrams
from experiments.results.measures import MEASURES
from experiments.results.runs import Run

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
Leave = Callable[..., str]


def texts(drawing: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(drawing).iter("text")]


def heights(drawing: str, color: str) -> list[float]:
    """Return the heights of the bars of a color, but not of the legend's box."""
    boxes = [box for box in ET.fromstring(drawing).iter("rect") if box.attrib["fill"] == color]
    return [float(box.attrib["height"]) for box in boxes if box.attrib["width"] != "10.0"]


@pytest.fixture
def run(result: Made, as_run: AsRun, leave: Leave) -> Run:
    clean, perturbed = [0.5, 0.25, 0.25], [0.0, 0.9, 0.1]
    vote = {"generator": "mask", "clean_frequency": clean, "perturbed_frequency": perturbed,
            "weight": 0.5}  # fmt: skip
    evidence = {
        "identification": {"target_label": 1, "votes": [vote]},
        "divergence": {"layer1": 0.5, "layer2": 1.0},
        "tuned_layers": ["layer2"],
    }
    made = {**result(), "config": {"data": {"classes": {"key": "", "lemon": "", "bell": ""}}}}
    return as_run({**made, "stages": {"purify": leave("purify", "evidence.json", evidence)}})


def test_rates_are_bars_of_the_three_models_and_gaps_are_none() -> None:
    rates = {name: {"clean": rate(1, 4), "backdoored": rate(2, 4), "purified": None}
             for name in MEASURES}  # fmt: skip
    drawing = diagrams.before_after(rates)
    clean, backdoored = heights(drawing, PLAIN), heights(drawing, ALARM)
    assert len(clean) == len(backdoored) == 5
    assert backdoored[0] == pytest.approx(2 * clean[0])
    assert heights(drawing, REPAIRED) == []


def test_classes_are_ranked_by_their_gain_with_the_named_one_bold(run: Run) -> None:
    drawing = diagrams.frequencies("t", run)
    shown = texts(drawing)
    assert [name for name in shown if name in ("key", "lemon", "bell")] == ["lemon", "bell", "key"]
    assert {"mask (weight 0.5)", "+65.0", "-15.0", "-50.0"} <= set(shown)
    bold = [text.text for text in ET.fromstring(drawing).iter("text")
            if text.get("font-weight") == "700"]  # fmt: skip
    assert bold == ["lemon"]


def test_without_names_classes_have_numbers(run: Run, as_run: AsRun) -> None:
    nameless = as_run({**run.result, "config": {}})
    assert "class 1" in texts(diagrams.frequencies("t", nameless))


def test_tuned_layers_stand_out_and_axes_can_be_shared(run: Run) -> None:
    drawing = diagrams.divergence("t", run)
    ((left,), (tuned,)) = heights(drawing, PLAIN), heights(drawing, REPAIRED)
    assert tuned == pytest.approx(2 * left, abs=0.1)
    shared = diagrams.divergence("t", run, top=2.1)
    assert heights(shared, REPAIRED)[0] == pytest.approx(tuned / 2, abs=0.1)


def test_losses_are_curves_by_name() -> None:
    assert {"tuning", "3 steps"} <= set(texts(diagrams.losses({"tuning": [3.0, 2.0, 1.0]})))
