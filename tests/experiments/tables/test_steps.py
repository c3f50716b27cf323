from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.statistics import Estimate
from experiments.results.runs import Run
from experiments.tables import steps
from experiments.tables.measure import Measure, Runs

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
Leave = Callable[..., str]


def _cells(measures: list[Measure], runs: Runs) -> dict[str, Any]:
    return {measure.column.name: measure.read(runs) for measure in measures}


def test_the_share_of_found_targets_leaves_out_what_has_no_verdict(
    result: Made, as_run: AsRun
) -> None:
    made = [result(seed) for seed in range(4)]
    made[1]["identification"]["correct"] = False
    made[2]["identification"]["correct"] = None
    made[3]["identification"] = None
    runs = [as_run(one) for one in made]
    assert steps.target_found().read(runs) == "1 of 2"
    assert steps.target_found().read(runs[2:]) is None


def test_named_classes_are_counted(result: Made, as_run: AsRun) -> None:
    made = [result(seed) for seed in range(3)]
    made[0]["identification"]["target_label"] = "key"
    runs = [as_run(one) for one in made]
    assert steps.named_class("target_label", "found", "found").read(runs) == "lemon x2, key"
    assert steps.named_class("runner_up", "x", "x").read(runs[:1]) == "key"


def test_verdicts_are_counted(result: Made, as_run: AsRun) -> None:
    kinds = ("clean", "backdoored", "backdoored", None)
    made = [{**result(seed), "verdict": {"kind": kind} if kind else None}
            for seed, kind in enumerate(kinds)]  # fmt: skip
    runs = [as_run(one) for one in (*made, result(9))]
    assert steps.verdict().read(runs) == "backdoored x2, clean"
    assert steps.verdict().read(runs[3:]) is None


def test_frequencies_are_of_the_found_class_under_every_generator(
    result: Made, as_run: AsRun, leave: Leave
) -> None:
    vote = {"generator": "mask", "clean_frequency": [0.25, 0.75], "perturbed_frequency": [0.0, 1.0]}
    found = {"identification": {"target_label": 1, "votes": [vote]}}
    made = {**result(), "stages": {"purify": leave("purify", "evidence.json", found)}}
    made["config"] = {"defense": {"identify": {"images": 4}}}
    runs = [as_run(made)]
    cells = _cells(steps.frequencies(runs), runs)
    clean, perturbed = cells["p_clean_mask"], cells["p_adv_mask"]
    assert (clean.value, perturbed.value, perturbed.high) == (0.75, 1.0, 1.0)
    assert clean.low == pytest.approx(0.3006, abs=1e-4)  # Wilson, 3 of 4


def test_the_best_inverted_trigger_and_numbers_of_later_versions(
    result: Made, as_run: AsRun
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
    runs = [as_run(made)]
    assert steps.best_form().read(runs) == "mask"
    assert _cells(steps.other_numbers(runs), runs) == {"activation_cosine": Estimate(0.5)}
    asr = steps.asr_inverted().read(runs)
    assert isinstance(asr, Estimate)
    assert (asr.low, asr.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson, 5 of 10


def test_without_an_inversion_there_is_no_number(result: Made, as_run: AsRun) -> None:
    runs = [as_run(result())]
    assert steps.asr_inverted().read(runs) is None
    assert steps.best_form().read(runs) is None
    assert steps.other_numbers(runs) == []


def test_layers_have_a_column_each_and_tuned_ones_are_marked(
    result: Made, as_run: AsRun, leave: Leave
) -> None:
    found = [{"divergence": {"layer1": 0.5, "layer2": 1.25 + i}, "tuned_layers": ["layer2"][i:]}
             for i in (0, 1)]  # fmt: skip
    runs = [as_run({**result(i), "stages": {"purify": leave(f"p{i}", "evidence.json", one)}})
            for i, one in enumerate(found)]  # fmt: skip

    def texts(some: Runs) -> dict[str, str]:
        measures = steps.divergence(some)
        return {m.column.title: str(m.column.cell(m.read(some))) for m in measures}

    assert texts(runs[:1]) == {"layer1": "0.50", "layer2": "1.25 chosen"}
    assert texts(runs) == {"layer1": "0.50", "layer2": "1.75 chosen in 1"}
    assert steps.tuned_layers().read(runs) == "layer2"
    assert steps.tuned_layers().read(runs[1:]) is None
