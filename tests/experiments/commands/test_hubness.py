"""Readings on clean models."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import hubness


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    votes = [
        {"generator": "a", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.9, 0.1]},
        {"generator": "b", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.4, 0.6]},
    ]
    (tmp_path / "purify").mkdir()
    (tmp_path / "purify" / "evidence.json").write_text(
        json.dumps({"identification": {"votes": votes}})
    )
    results: list[dict[str, Any]] = [
        {
            "attack": {"target_label": target},
            "config": {"data": {"classes": {"cat": "cat", "dog": "dog"}}},
            "stages": {"purify": "purify"},
        }
        for target in (None, "cat")
    ]
    monkeypatch.setattr(hubness, "load_results", lambda _: results)
    return tmp_path


def test_only_clean_controls_count(runs: Path) -> None:
    gains = hubness.clean_gains(runs)
    assert {name: len(series) for name, series in gains.items()} == {"a": 1, "b": 1}
    assert gains["a"][0]["cat"] == pytest.approx(0.4)


def test_the_largest_gain_is_the_reading(runs: Path) -> None:
    text = hubness.describe(hubness.clean_gains(runs))
    assert "a: largest gain 0.40 (mean 0.40 over 1 clean models); cat +0.40" in text
    assert "b: largest gain 0.10" in text


def test_without_a_clean_control_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubness, "load_results", lambda _: [])
    with pytest.raises(ValueError, match="attack=none"):
        hubness.clean_gains(tmp_path)
