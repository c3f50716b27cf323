from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.results.left import (
    read_evidence,
    read_losses,
    read_predictions,
    stage_folder,
)

VOTE = {"generator": "mask", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0, 1.0],
        "weight": 1.0}  # fmt: skip
SURVIVAL = {"form": "mask", "budgets": [0.2, 0.1], "classes": [[0, 1], [1]],
            "success": [[0.5, 1], [1.0]], "pull": [[0.1, 2], [0.0]]}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "identification": {"target_label": 1, "votes": [VOTE], "survival": [SURVIVAL], "again": []},
    "divergence": {"layer1": 0.5},
    "tuned_layers": ["layer1"],
    "neurons": {"layer1": [3, 8]},
    "curves": {"tuning": [2.0, 1.0]},
    "found_by_others": {"anything": [None]},
}


@pytest.mark.parametrize("name", ["implant-0123", "evaluate-a.b", "x"])
def test_a_stage_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    assert stage_folder(tmp_path, name) == tmp_path / "stages" / name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\\b", ".hidden", "a\0"])
def test_a_way_to_another_place_is_no_stage(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a stage is a folder's name"):
        stage_folder(tmp_path, name)


def test_whole_evidence_is_read_with_what_others_found(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    assert read_evidence(path) == {}
    path.write_text(json.dumps(EVIDENCE))
    assert read_evidence(path) == EVIDENCE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identification", []),
        ("identification", {"target_label": -1}),
        ("identification", {"target_label": 2, "votes": [VOTE]}),
        ("identification", {"votes": [{**VOTE, "clean_frequency": [1.0]}]}),
        ("identification", {"votes": [VOTE, {**VOTE, "clean_frequency": [0, 0, 1],
                                            "perturbed_frequency": [0, 0, 1]}]}),
        ("identification", {"votes": [{**VOTE, "perturbed_frequency": ["a", "b"]}]}),
        ("identification", {"votes": [{**VOTE, "perturbed_frequency": [7, 0]}]}),
        ("identification", {"votes": [{"generator": "mask"}]}),
        ("identification", {"votes": 3}),
        ("identification", {"survival": [{"form": "mask"}]}),
        ("identification", {"survival": [{**SURVIVAL, "budgets": [0.1]}]}),
        ("identification", {"again": [{**SURVIVAL, "success": [[0.5], [1.0]]}]}),
        ("identification", {"again": [{**SURVIVAL, "success": [[0.5, 1], [7]]}]}),
        ("identification", {"again": [{**SURVIVAL, "pull": [[0.5, 1], []]}]}),
        ("identification", {"again": [{**SURVIVAL, "pull": [[0.5, 1], ["x"]]}]}),
        ("identification", {"again": [{**SURVIVAL, "classes": [[0, "x"], [1]]}]}),
        ("divergence", {"layer1": "much"}),
        ("divergence", {"layer1": 10**400}),
        ("divergence", [1]),
        ("tuned_layers", "layer1"),
        ("tuned_layers", [3]),
        ("neurons", {"layer1": 3}),
        ("curves", {"tuning": 3}),
        ("curves", {"tuning": ["a"]}),
    ],
)  # fmt: skip
def test_a_finding_that_is_none_is_left_out_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: object
) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps({**EVIDENCE, name: value}))
    found = read_evidence(path)
    assert found == {key: own for key, own in EVIDENCE.items() if key != name}
    assert f"{path}: {name} is left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "values"),
    [("[1, 2.5]", [1.0, 2.5]), ('{"losses": [3]}', [3.0]), ("{}", []), ("3", []), (None, [])],
)
def test_losses_are_read_of_either_form(
    tmp_path: Path, content: str | None, values: list[float]
) -> None:
    path = tmp_path / "losses.json"
    if content is not None:
        path.write_text(content)
    assert read_losses(path) == values


@pytest.mark.parametrize("content", ['["a"]', "[null]", "[[1]]", f"[{10**400}]", "[true]", "["])
def test_losses_that_are_none_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "losses.json"
    path.write_text(content)
    assert read_losses(path) == []
    assert f"{path} is left out" in caplog.text


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": [0, 1], "clean": [0], "triggered": [0, 1]},
        {"labels": [[0, 1]], "clean": [[0, 1]], "triggered": [[0, 1]]},
        {"labels": [0.5, 1.0], "clean": [0.5, 1.0], "triggered": [0.5, 1.0]},
        {"labels": ["a"], "clean": ["a"], "triggered": ["a"]},
        {"labels": 3, "clean": 3, "triggered": 3},
        {"labels": [0, 1], "clean": [0, 1]},
    ],
)
def test_predictions_that_are_none_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arrays: dict[str, Any]
) -> None:
    path = tmp_path / "predictions.npz"
    np.savez(path, **{name: np.array(values) for name, values in arrays.items()})
    assert read_predictions(path) is None
    assert f"{path} is left out" in caplog.text


def test_evidence_too_large_to_read_at_once_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps({"curves": {"a": [0.5] * 1_000_000}}))
    assert read_evidence(tmp_path / "evidence.json") == {}
    assert "evidence.json is larger than 4 MiB" in caplog.text
    (tmp_path / "evidence.json").write_text(json.dumps({"curves": {"a": [0.5] * 100_000}}))
    assert len(read_evidence(tmp_path / "evidence.json")["curves"]["a"]) == 100_000
