from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from evaluation.intervals import wilson
from evaluation.statistics import Estimate
from experiments.config import CONF
from experiments.figures.study import Study, comparable, find_studies, labels
from experiments.results.runs import Run
from experiments.sweeps.sweep import Sweep

MakeSweep = Callable[..., Sweep]
MakeRuns = Callable[..., list[Run]]
PRESERVE, ACTIVATION = "defense.tune.weights.preserve", "defense.tune.weights.activation"
AXES = {"attack": ["badnet", "sig"], PRESERVE: ["5", "10"], "seed": ["0", "1"]}


def test_a_study_is_made_for_each_attack_with_intervals_over_the_seeds(
    sweep: MakeSweep, runs_of: MakeRuns
) -> None:
    swept = sweep(AXES)

    def shares(given: dict[str, str]) -> tuple[float, float]:
        return float(given[PRESERVE]) / 20, 0.1 if given["seed"] == "0" else 0.3

    first, second = find_studies(runs_of(swept, shares), [swept])
    assert (first.parts, second.parts) == (("attack=badnet",), ("attack=sig",))
    assert first.name != second.name
    assert first.keys == (PRESERVE,)
    assert first.names == ("preserve",)
    assert [point.at for point in first.points] == [(5.0,), (10.0,)]
    assert first.points[0].seeds == (0, 1)
    low, high = wilson(100, 200)  # equal seeds: of their images together
    assert first.points[1].shares["CA after"] == Estimate(0.5, low, high)
    asr = first.points[0].shares["ASR after"]
    # Two seeds: 0.2 plus or minus 12.706 * 0.1414 / sqrt(2) = 1.27, clipped.
    assert asr.value == pytest.approx(0.2)
    assert (asr.low, asr.high) == (0.0, 1.0)
    assert "2 seeds" in first.title
    assert "rn50_mini, badnet → invertune" in first.title


def test_a_copy_of_a_run_is_no_second_seed(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    swept = sweep({PRESERVE: ["5", "5.0"]})  # whose runs had ids of their own in earlier versions
    (study,) = find_studies(runs_of(swept), [swept])
    assert [(point.at, point.seeds) for point in study.points] == [((5.0,), (0,))]


def test_a_title_hides_nothing(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    swept = sweep({PRESERVE: ["5", "10"], "data.note": ["\x1b[2J$\\frac$", "b"]})
    first, _ = find_studies(runs_of(swept), [swept])
    assert r"data.note=\x1b[2J$\frac$" in first.title


def test_one_seed_keeps_its_own_interval(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    swept = sweep({PRESERVE: ["5", "10"]})
    (study,) = find_studies(runs_of(swept), [swept])
    assert study.points[0].shares == {
        "CA after": Estimate(0.8, 0.4, 0.9), "ASR after": Estimate(0.2, 0.1, 0.6),
        "R@1 after": Estimate(0.6, 0.5, 0.7),
    }  # fmt: skip
    assert "1 seed;" in study.title


def test_what_was_not_measured_is_no_share(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    swept = sweep({PRESERVE: ["5", "10"]})
    runs = runs_of(swept)
    runs[0].result["scores"]["purified"]["zero_shot"]["asr"] = None  # type: ignore[index]
    (study,) = find_studies(runs, [swept])
    assert set(study.points[0].shares) == {"CA after", "R@1 after"}
    assert study.shares("ASR after") == [0.2]
    for run in runs:
        run.result["scores"]["purified"]["retrieval"] = None  # type: ignore[index]
    (study,) = find_studies(runs, [swept])
    assert study.measures == ["CA after", "ASR after"]  # and a figure has no panel of nothing
    assert [*study.panels()[""]] == study.measures


def test_the_default_comes_from_the_yaml_of_the_runs_defense(
    sweep: MakeSweep, runs_of: MakeRuns
) -> None:
    swept = sweep({PRESERVE: ["5", "10"], "defense.tune.none": ["1", "2"]})
    (study,) = find_studies(runs_of(swept), [swept])
    text = (CONF / "defense" / "invertune.yaml").read_text(encoding="utf-8")
    default = float(yaml.safe_load(text)["tune"]["weights"]["preserve"])
    assert study.defaults == (default, None)
    assert f"default: preserve {default:g}" in study.title


def test_runs_that_are_not_done_are_counted(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    swept = sweep({PRESERVE: ["5", "10"], ACTIVATION: ["0.1", "0.2"]})
    (study,) = find_studies(runs_of(swept)[:3], [swept])
    assert study.left == 1
    assert len(study.points) == 3


def test_a_sweep_that_a_larger_one_holds_is_left_out(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    small, large = sweep({PRESERVE: ["5", "10"]}, "a"), sweep({PRESERVE: ["5", "10", "20"]}, "b")
    runs = runs_of(large)
    assert [study.name for study in find_studies(runs, [small, large])] == ["b"]
    twin = sweep({PRESERVE: ["5", "10"]}, "c")
    assert [study.name for study in find_studies(runs, [small, twin])] == ["c"]


@pytest.mark.parametrize("values", [["badnet", "sig"], ["1", "nan"], ["1", "inf"]])
def test_a_sweep_without_numbers_or_of_another_experiment_is_no_study(
    sweep: MakeSweep, runs_of: MakeRuns, values: list[str]
) -> None:
    words = sweep({"attack": values, "seed": ["0", "1"]})
    other = sweep({PRESERVE: ["5", "10"]}, experiment="T1")
    assert find_studies(runs_of(words), [words, other]) == []


@pytest.mark.parametrize("axis", ["detector", "detector.neighbors"])
def test_a_sweep_over_detectors_is_no_study(sweep: MakeSweep, runs_of: MakeRuns, axis: str) -> None:
    swept = sweep({PRESERVE: ["5", "10"], axis: ["1", "2"]})
    assert find_studies(runs_of(swept), [swept]) == []


def test_a_further_parameter_is_a_panel_per_value(study: Callable[..., Study]) -> None:
    panels = study("x.a", "x.b", "x.c").panels()
    assert list(panels) == ["c=1", "c=2", "c=3"]
    assert panels["c=1"]["CA after"][(1.0, 3.0)] == Estimate(0.9, 0.8, 0.95)
    assert list(study("x.a").panels()) == [""]


def test_studies_of_one_parameter_share_a_picture(sweep: MakeSweep, runs_of: MakeRuns) -> None:
    flat = sweep({"attack": ["badnet", "sig"], "model": ["a", "b"], PRESERVE: ["5", "10"]})
    alone = sweep({PRESERVE: ["5", "10"]}, "alone")
    two = sweep({"attack": ["badnet", "sig"], PRESERVE: ["5"], ACTIVATION: ["1"]}, "two")
    runs = [run for each in (flat, alone, two) for run in runs_of(each)]
    (group,) = comparable(find_studies(runs, [flat, alone, two])).values()
    assert [study.sweep for study in group] == ["f4-0"] * 4
    assert labels(group) == ["badnet, a", "badnet, b", "sig, a", "sig, b"]
    assert labels(group[:2]) == ["a", "b"]
