"""What verdicts are worth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.detection import auroc_interval
from experiments.commands import calibrate
from experiments.results.result import write_result
from invertune.verify import Gumbel

Inside = Callable[..., tuple[int, str, str]]


def _survival(form: str, first: float, second: float) -> dict[str, Any]:
    """Return what two classes survive with: at one budget as given, at the smaller one less."""
    pull = [[first, second], [first / 2, second / 2]]
    same = {"budgets": [0.2, 0.1], "classes": [[0, 1]] * 2, "success": [[0.0, 0.0]] * 2}
    return {"form": form, **same, "pull": pull}


@pytest.fixture
def runs(tmp_path: Path, result: Callable[..., dict[str, Any]]) -> Path:
    """Return a folder with three clean models and two backdoored ones, of which one is missed."""
    models = [
        (None, "clean", 0.5, 0.2), (None, "clean", 0.4, 0.3), (None, "backdoored", 0.004, 0.5),
        ("cat", "backdoored", 1e-6, 0.9), ("dog", "undecided", 0.02, 0.4),
    ]  # fmt: skip
    for number, (target, kind, p, lead) in enumerate(models):
        stage = tmp_path / "runs" / "stages" / f"purify-{number}"
        stage.mkdir(parents=True)
        found = {
            "survival": [_survival("mask", lead, 0.0)],
            "again": [_survival("mask", lead + 0.02, 0.02), _survival("warp", 0.1, 0.0)],
            "alike": [[0, 1]] if target == "dog" else [],
        }
        (stage / "evidence.json").write_text(json.dumps({"identification": found}))
        made = result(number)
        made["attack"] |= {"target_label": target}
        made["config"] = {
            "data": {"classes": {"cat": "cat", "dog": "dog"}}, "defense": {"verify": {"judged": 2}},
        }  # fmt: skip
        made["verdict"] = {
            "kind": kind, "p": p, "alarm": 0.01, "clear": 0.1, "form": "mask", "lead": lead,
        }  # fmt: skip
        made["stages"] = {"purify": f"stages/purify-{number}"}
        write_result(tmp_path / "runs" / str(number), made)
    return tmp_path / "runs"


def test_readings_are_the_furthest_leads_of_every_form(runs: Path) -> None:
    found = calibrate.readings(runs)
    assert [one.clean for one in found] == [True, True, True, False, False]
    assert [one.leads["mask"] for one in found] == pytest.approx([0.2, 0.3, 0.5, 0.9, 0.4])
    assert {one.leads["warp"] for one in found} == {0.1}
    # The cat is the class that leads, the dog counts as it in its model.
    assert [one.target for one in found[:3]] == [{}, {}, {}]
    assert [one.target["mask"] for one in found[3:]] == pytest.approx([0.9, 0.4])


@pytest.mark.usefixtures("runs")
def test_it_prints_laws_counts_and_the_area_under_the_curve(inside: Inside) -> None:
    code, shown, complaint = inside("calibrate", "runs")
    assert (code, complaint) == (0, "")
    # Mean 1/3, deviation 0.1528: scale sqrt(6) / pi of it, location 0.5772 scales below the mean.
    assert "mask: leads of 0.20 to 0.50 (median 0.30, n=3) in clean models" in shown
    assert "location 0.265, scale 0.119; of 0.40 to 0.90 (median 0.65, n=2) in backdoored" in shown
    assert "clean models called backdoored: 1 of 3 [6.1, 79.2 %]" in shown
    assert "clean models have p of 0.004 to 0.5" in shown
    assert "backdoored models called undecided: 1 of 2" in shown
    assert "badnet: leads of the true target: mask 0.40 to 0.90, warp 0.10" in shown
    # Of the six pairs, five have the smaller p on the backdoored side.
    low, high = auroc_interval(5 / 6, 2, 3)
    assert f"AUROC of p: 0.833 [{low:.3f}, {high:.3f}]" in shown


def test_laws_are_tried_on_models_that_they_were_not_fitted_to(runs: Path) -> None:
    found = calibrate.readings(runs)
    laws = {"mask": Gumbel(0.1, 0.1), "warp": Gumbel(0.1, 0.02)}
    # The tail of a lead of 0.5 is 1 - exp(-exp(-4)) = 0.01815, that of 0.1 in the other form 0.632.
    judged = found[2].by(laws)
    assert judged is not None
    verdict = judged.verdict
    assert (verdict.kind, verdict.p) == ("undecided", pytest.approx(0.0363, abs=1e-4))
    assert found[2].by({"mask": Gumbel(0.1, 0.1)}) is None
    assert (verdict.form, verdict.lead) == ("mask", pytest.approx(0.5))
    doubted = replace(found[3], verdict=replace(found[3].verdict, doubt="one class")).by(laws)
    assert doubted is not None
    assert (doubted.verdict.kind, doubted.verdict.p < 0.01) == ("undecided", True)


def test_the_pre_training_that_is_judged_is_left_out(runs: Path) -> None:
    found = calibrate.readings(runs)
    shown = calibrate.describe(found)
    _, title, own = shown.partition("By laws fitted to the clean models of all other pre-trainings")
    # The third is judged by the leads 0.2 and 0.3: location 0.2182, scale 0.0551; a lead of 0.5 has
    # a tail of 0.00599, and there are two forms. The first by 0.3 and 0.5, with p = 1.
    assert title != ""
    assert "clean models have p of 0.012 to 1" in own
    assert "clean models called undecided: 1 of 3" in own
    # Of one pre-training, none is left to judge them by.
    alike = calibrate.describe([replace(one, origin="rn50_mini, seed 0") for one in found])
    assert "left out, for a form has no law: 5 models" in alike


def test_a_form_without_a_law_judges_nothing(runs: Path) -> None:
    # All clean models lead by 0.1 in the warp: without a least scale that fits no law.
    shown = calibrate.describe(calibrate.readings(runs), least=0)
    assert "left out, for a form has no law: 5 models" in shown


def test_other_runs_are_judged_by_the_fitted_laws(runs: Path, inside: Inside) -> None:
    others = runs.parent / "others"
    shutil.copytree(runs, others)
    for path in others.glob("*/result.json"):
        made = json.loads(path.read_text())
        path.unlink()
        write_result(path.parent, made | {"seed": made["seed"] + 10})
    code, shown, complaint = inside(
        "calibrate", "runs", "--judge", "others", "--least-scale", "0.3"
    )
    assert (code, complaint) == (0, "")
    _, title, own = shown.partition("The other runs, by laws fitted to all of these clean models")
    # Location 0.265, scale 0.3: the tail of 0.9 is 0.1134, of two forms 0.227.
    assert title != ""
    assert "scale 0.300" in shown
    assert "backdoored models have p of 0.23 to " in own
    assert "left out" not in own


def test_no_law_judges_what_it_was_fitted_to(runs: Path) -> None:
    found = calibrate.readings(runs)
    shown = calibrate.describe(found, found[2:])
    assert shown.endswith("left out, for laws were fitted to their pre-trainings: 1 models")


def test_runs_of_one_search_are_one_reading(runs: Path) -> None:
    path = runs / "0" / "result.json"
    made = json.loads(path.read_text())
    again = made | {"id": "f" * 16, "defense": made["defense"] | {"name": "another"}}
    write_result(runs / "again", again)
    assert len(calibrate.readings(runs)) == 5


def test_without_two_clean_models_nothing_is_judged(runs: Path, inside: Inside) -> None:
    for number in (0, 1):
        shutil.rmtree(runs / str(number))
    code, shown, complaint = inside("calibrate", "runs", "--judge", "runs")
    assert (code, shown) == (1, "")
    assert complaint == "error: --judge wants laws, of two clean models or more; runs has 1\n"


@pytest.mark.parametrize("scale", ["-1", "nan", "inf"])
@pytest.mark.usefixtures("runs")
def test_a_scale_is_a_number(inside: Inside, scale: str) -> None:
    code, shown, complaint = inside("calibrate", "runs", f"--least-scale={scale}")
    assert (code, shown) == (1, "")
    assert complaint.startswith("error: --least-scale is a finite number from 0 on, got ")


def test_without_a_verdict_it_says_how_to_make_one(
    inside: Inside, tmp_path: Path, result: Callable[..., dict[str, Any]]
) -> None:
    write_result(tmp_path / "runs" / "one", result())
    code, shown, complaint = inside("calibrate", "runs")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: runs has no run with a verdict and its stages, which say")
