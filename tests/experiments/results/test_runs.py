from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.results.result import write_result
from experiments.results.runs import Predictions, Run, different, load_runs

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
Leave = Callable[..., str]

VOTE = {"generator": "mask", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.0, 1.0],
        "weight": 1.0}  # fmt: skip
EVIDENCE = {
    "identification": {"target_label": 1, "votes": [VOTE]},
    "divergence": {"layer1": 0.5},
    "tuned_layers": ["layer1"],
    "neurons": {"layer1": [3, 8]},
    "curves": {"tuning": [2.0, 1.0]},
}


def test_runs_come_by_name_and_damaged_ones_are_named(
    result: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seed in (("b", 1), ("a", 0), ("c", 2)):
        write_result(tmp_path / name, result(seed))
    short = tmp_path / "c" / "result.json"
    short.write_text(short.read_text()[:200])
    with caplog.at_level(logging.WARNING):
        runs = load_runs(tmp_path)
    assert [(run.folder.name, run.seed, run.id) for run in runs] == [
        ("a", 0, "00000000"), ("b", 1, "00000001"),
    ]  # fmt: skip
    (record,) = caplog.records
    assert "c/result.json is left out: it is no JSON, or truncated" in record.message


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a folder of runs"):
        load_runs(tmp_path / "nowhere")


def test_a_copied_run_counts_once(
    result: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seed in (("a", 0), ("b", 1), ("copy", 0)):
        write_result(tmp_path / name, result(seed))
    assert [run.folder.name for run in different(load_runs(tmp_path))] == ["a", "b"]
    assert "copies of runs are left out: 1" in caplog.text


def test_a_run_has_its_parts_by_name(result: Made, as_run: AsRun) -> None:
    run = as_run(result())
    names = [run.name(part) for part in ("data", "model", "attack", "defense")]
    assert names == ["icons", "rn50_mini", "badnet", "mine"]
    assert run.target == "lemon"
    assert run.stage("purify") == run.folder.parent / "no-purify"
    assert run.class_names == []


def test_what_the_defense_found_is_read_once(
    result: Made, as_run: AsRun, leave: Leave, tmp_path: Path
) -> None:
    stages = {"purify": leave("purify", "evidence.json", EVIDENCE),
              "implant": leave("implant", "losses.json", {"losses": [3, 2]})}  # fmt: skip
    run = as_run({**result(), "stages": stages})
    assert run.votes == [VOTE]
    (tmp_path / "stages" / "purify" / "evidence.json").unlink()
    assert run.found_label == 1
    assert run.divergence == {"layer1": 0.5}
    assert run.tuned_layers == ["layer1"]
    assert run.neurons == {"layer1": [3, 8]}
    assert run.losses == {"implant": [3.0, 2.0], "tuning": [2.0, 1.0]}


def test_a_run_without_its_stages_has_nothing_of_them(result: Made, as_run: AsRun) -> None:
    run = as_run(result())
    assert not run.votes
    assert run.found_label is None
    assert not run.divergence
    assert not run.tuned_layers
    assert run.losses == {}
    assert run.trigger is None
    assert run.predictions is None
    assert not run.pictures.exists()


@pytest.mark.parametrize("content", ["[1", "[]", '"text"'])
def test_evidence_that_is_none_is_left_out(
    result: Made, as_run: AsRun, leave: Leave, tmp_path: Path, content: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    way = leave("purify", "evidence.json", {})
    (tmp_path / way / "evidence.json").write_text(content)
    assert as_run({**result(), "stages": {"purify": way}}).evidence == {}
    assert ("evidence.json is left out" in caplog.text) == (content == "[1")


def test_a_stage_is_a_name_and_no_way(result: Made, as_run: AsRun) -> None:
    run = as_run({**result(), "stages": {"purify": "stages/purify-0", "implant": "/etc"}})
    assert run.stage("purify") == run.folder.parent / "stages" / "purify-0"
    assert run.stage("evaluate/purified").parent == run.folder.parent
    with pytest.raises(ValueError, match="a stage is a folder's name"):
        run.stage("implant")


@pytest.mark.parametrize("classes", [3, "apple", None, {}, []])
def test_classes_that_are_none_have_no_names(result: Made, as_run: AsRun, classes: object) -> None:
    assert as_run({**result(), "config": {"data": {"classes": classes}}}).class_names == []


def test_a_trigger_is_described_by_its_fields(result: Made, as_run: AsRun, leave: Leave) -> None:
    state = {"_target_": "attacks.triggers.PatchTrigger", "size": 16, "noise": list(range(99))}
    run = as_run({**result(), "stages": {"implant": leave("implant", "trigger.json", state)}})
    assert run.trigger == f"PatchTrigger(size=16, noise={str(list(range(99)))[:40]})"


def test_class_names_are_in_the_order_of_the_config(result: Made, as_run: AsRun) -> None:
    made = {**result(), "config": {"data": {"classes": {"lemon": "l", "apple": "a"}}}}
    assert as_run(made).class_names == ["lemon", "apple"]


def _predicted(
    as_run: AsRun, made: dict[str, Any], folder: Path, **arrays: list[int]
) -> Predictions | None:
    stage = folder / "stages" / "evaluate"
    stage.mkdir(parents=True, exist_ok=True)
    np.savez(stage / "predictions.npz", **{k: np.array(v, np.int32) for k, v in arrays.items()})
    run: Run = as_run({**made, "stages": {"evaluate/purified": "stages/evaluate"}})
    return run.predictions


def test_the_target_is_the_class_without_triggered_images(
    result: Made, as_run: AsRun, tmp_path: Path
) -> None:
    found = _predicted(as_run, result(), tmp_path, labels=[0, 0, 1, 2], clean=[0, 1, 1, 0],
                       triggered=[1, 0, -1, 1])  # fmt: skip
    assert found is not None
    assert found.correct.tolist() == [True, False, True, False]
    assert found.hit is not None
    assert found.hit.tolist() == [True, False, False, True]
    other = Predictions(found.labels[::-1], found.correct, None)
    assert found.same_images(found)
    assert not found.same_images(other)


def test_without_a_trigger_nothing_is_hit(result: Made, as_run: AsRun, tmp_path: Path) -> None:
    found = _predicted(as_run, result(), tmp_path, labels=[0, 1], clean=[0, 1], triggered=[-1, -1])
    assert found is not None
    assert found.hit is None


def test_damaged_predictions_are_named_and_left_out(
    result: Made, as_run: AsRun, leave: Leave, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way = leave("evaluate", "x.json", {})
    (tmp_path / way / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    assert as_run({**result(), "stages": {"evaluate/purified": way}}).predictions is None
    assert "predictions.npz is left out" in caplog.text
