from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.config import presets
from experiments.results.runs import Run
from experiments.tables.grid import Value
from experiments.tables.layouts import LAYOUTS, OWN, layout_of

Made = Callable[..., dict[str, Any]]


def _cells(experiment: str, runs: Sequence[Run]) -> dict[str, Value]:
    measures = layout_of(experiment).measures(runs)
    return {measure.column.name: measure.read(runs) for measure in measures}


def _with_evidence(result: dict[str, Any], folder: Path, **evidence: Any) -> Run:
    (folder / "stages" / "purify").mkdir(parents=True)
    text = json.dumps(evidence)
    (folder / "stages" / "purify" / "evidence.json").write_text(text, encoding="utf-8")
    return Run({**result, "stages": {"purify": "stages/purify"}}, folder)


def test_every_experiment_of_the_paper_has_a_layout() -> None:
    assert set(presets().values()) <= set(LAYOUTS)
    assert layout_of("mine") is OWN


@pytest.mark.parametrize("experiment", [*LAYOUTS, "mine"])
def test_columns_have_names_of_their_own(experiment: str, result: Made, tmp_path: Path) -> None:
    run = Run(result(), tmp_path)
    measures = layout_of(experiment).measures([run])
    names = [measure.column.name for measure in measures]
    titles = [m.column.heading for m in measures if m.column.where != "csv"]
    assert len(set(names)) == len(names)
    assert len(set(titles)) == len(titles)
    assert all(names)
    assert all(titles)


def test_classification_has_means_over_seeds_and_the_share_of_found_targets(
    result: Made, tmp_path: Path
) -> None:
    runs = [Run(result(seed, asr=asr), tmp_path) for seed, asr in ((0, 0.8), (1, 0.9), (2, 1.0))]
    runs[1].result["identification"]["correct"] = False
    cells = _cells("T1", runs)
    before = cells["asr_before"]
    assert isinstance(before, Estimate)
    assert before.value == pytest.approx(0.9)
    assert before.low == pytest.approx(0.9 - 0.248414, abs=1e-6)
    assert before.high == 1.0
    assert cells["target_found"] == "2 of 3"
    assert cells["paper_asr_after_percent"] is None


@pytest.mark.parametrize(
    ("defense", "number"), [("none", "98.36"), ("invertune", "0.49"), ("par", "> 15"), ("x", None)]
)
def test_the_paper_stands_beside_its_own_attack(
    defense: str, number: str | None, result: Made, tmp_path: Path
) -> None:
    badclip = result(defense=defense)
    badclip["attack"]["name"] = "badclip"
    assert _cells("T1", [Run(badclip, tmp_path)])["paper_asr_after_percent"] == number
    badclip["model"]["name"] = "vit_b_16"
    assert _cells("T1", [Run(badclip, tmp_path)])["paper_asr_after_percent"] is None


def test_identification_has_the_found_class_under_every_generator(
    result: Made, tmp_path: Path
) -> None:
    vote = {
        "generator": "mask",
        "clean_frequency": [0.25, 0.75],
        "perturbed_frequency": [0.0, 1.0],
    }
    found = {"target_label": 1, "votes": [vote]}
    made = result()
    made["config"] = {"defense": {"identify": {"images": 4}}}
    cells = _cells("F1", [_with_evidence(made, tmp_path, identification=found)])
    clean, perturbed = cells["p_clean_mask"], cells["p_adv_mask"]
    assert isinstance(clean, Estimate)
    assert isinstance(perturbed, Estimate)
    assert (clean.value, perturbed.value, perturbed.high) == (0.75, 1.0, 1.0)
    assert clean.low == pytest.approx(0.3006, abs=1e-4)  # Wilson, 3 of 4
    assert cells["found"] == "lemon"


def test_the_control_has_a_found_class_but_no_verdict(result: Made, tmp_path: Path) -> None:
    control = result()
    control["attack"]["target_label"] = None
    control["identification"]["correct"] = None
    cells = _cells("F1", [Run(control, tmp_path)])
    assert cells["found"] == "lemon"
    assert cells["target_found"] is None


def test_inversion_has_the_best_trigger_and_numbers_of_later_versions(
    result: Made, tmp_path: Path
) -> None:
    made = result()
    made["inversion"] = {
        "asr": 0.5,
        "mask_share": 0.1,
        "embedding_cosine": 0.75,
        "activation_cosine": 0.5,
        "images": 10,
        "per_trigger": [
            {"form": "pixels", "asr": 0.5, "mask_share": 1.0, "embedding_cosine": 0.1},
            {"form": "mask", "asr": 0.5, "mask_share": 0.1, "embedding_cosine": 0.75},
        ],
    }
    cells = _cells("F2", [Run(made, tmp_path)])
    assert cells["form"] == "mask"
    assert cells["activation_cosine"] == Estimate(0.5)
    asr = cells["asr_inverted"]
    assert isinstance(asr, Estimate)
    assert (asr.low, asr.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson, 5 of 10


def test_layers_have_a_column_each_and_tuned_ones_are_marked(result: Made, tmp_path: Path) -> None:
    evidence = {"divergence": {"layer1": 0.5, "layer2": 1.25}, "tuned_layers": ["layer2"]}
    run = _with_evidence(result(), tmp_path, **evidence)
    measures = {m.column.title: m for m in layout_of("F3").measures([run])}
    texts = {title: m.column.text(m.read([run])) for title, m in measures.items()}
    assert (texts["layer1"], texts["layer2"]) == ("0.50", "1.25 tuned")


def test_evidence_that_cannot_be_read_is_named_and_left_out(
    result: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = _with_evidence(result(), tmp_path, divergence={"layer1": 0.5})
    (tmp_path / "stages" / "purify" / "evidence.json").write_text('{"divergence', encoding="utf-8")
    assert "divergence_layer1" not in _cells("F3", [run])
    assert "evidence.json is left out" in caplog.text


def test_retrieval_says_both_ways_at_every_k(result: Made, tmp_path: Path) -> None:
    cells = _cells("T2", [Run(result(), tmp_path)])
    assert cells["R@5, R@10 image to text after"] == "70.0, 80.0"
    assert {f"text_to_image_r{k}_before" for k in (1, 5, 10)} <= set(cells)
