"""Readings on clean models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import hubness
from experiments.results.result import write_result

Inside = Callable[..., tuple[int, str, str]]
VOTES = [
    {"generator": "a", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.9, 0.1]},
    {"generator": "b", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.4, 0.6]},
]


@pytest.fixture
def runs(tmp_path: Path, result: Callable[..., dict[str, Any]]) -> Path:
    """Return a folder with a clean control and an attacked model, both with the same votes."""
    stage = tmp_path / "runs" / "stages" / "purify-0"
    stage.mkdir(parents=True)
    (stage / "evidence.json").write_text(json.dumps({"identification": {"votes": VOTES}}))
    for name, target in (("control", None), ("attacked", "cat")):
        made = result()
        made["attack"] |= {"target_label": target}
        made["config"] = {"data": {"classes": {"cat": "cat", "dog": "dog"}}}
        made["stages"] = {"purify": "stages/purify-0"}
        write_result(tmp_path / "runs" / name, made)
    return tmp_path / "runs"


def test_only_clean_controls_count(runs: Path) -> None:
    gains = hubness.clean_gains(runs)
    assert {name: len(series) for name, series in gains.items()} == {"a": 1, "b": 1}
    assert gains["a"][0]["cat"] == pytest.approx(0.4)


@pytest.mark.usefixtures("runs")
def test_the_largest_gain_is_the_reading(inside: Inside) -> None:
    code, shown, complaint = inside("hubness", "runs")
    assert (code, complaint) == (0, "")
    assert "a: largest gain 0.40 (mean 0.40 over 1 clean models); cat +0.40" in shown
    assert "b: largest gain 0.10" in shown


def test_without_a_clean_control_it_says_how_to_make_one(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, shown, complaint = inside("hubness", "runs")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: runs has no clean control")
    assert "attack=none" in complaint
