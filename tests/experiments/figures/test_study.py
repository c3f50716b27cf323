from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from experiments.commands.figure import main, write_figures
from experiments.config import CONF, short_names
from experiments.figures.defaults import default_of
from experiments.figures.plots import _each_line, _labels, comparison
from experiments.figures.plots import sensitivity as drawn
from experiments.figures.study import Point, Study, comparable, find_studies
from experiments.report import diagrams
from experiments.results.result import write_result
from experiments.sweeps.sweep import Job, Sweep

Make = Callable[..., dict[str, Any]]
PRESERVE, ACTIVATION = "defense.tune.weights.preserve", "defense.tune.weights.activation"
AXES = {"attack": ["badnet", "sig"], PRESERVE: ["5", "10"], "seed": ["0", "1"]}


def combinations(axes: dict[str, list[str]]) -> Iterator[list[str]]:
    words: list[list[str]] = [[]]
    for key, values in axes.items():
        words = [[*word, f"{key}={value}"] for word in words for value in values]
    yield from words


def identity(words: list[str]) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def sweep(axes: dict[str, list[str]], name: str = "f4-0", experiment: str = "F4") -> Sweep:
    jobs = [
        Job(words, f"run-{identity(words)}", identity(words), {}) for words in combinations(axes)
    ]
    return Sweep(name, experiment, "2026-01-01T00:00:00", axes, jobs, [])


def results(made: Make, sweeps: Sweep, shares: Callable[[dict[str, str]], tuple[float, float]]
            ) -> list[dict[str, Any]]:  # fmt: skip
    """Return a result for every job, with the CA and ASR that a function of its axes gives."""
    found = []
    for job in sweeps.jobs:
        given = dict(word.split("=") for word in job.overrides)
        result = made(int(given.get("seed", 0)), "invertune")
        ca, asr = shares(given)
        score = result["scores"]["purified"]["zero_shot"]
        for name, value in (("ca", ca), ("asr", asr)):
            score[name] = {"value": value, "low": value / 2, "high": (1 + value) / 2, "n": 100}
        found.append({**result, "id": job.id})
    return found


def test_a_study_is_made_for_each_attack_with_intervals_over_the_seeds(result: Make) -> None:
    swept = sweep(AXES)

    def shares(given: dict[str, str]) -> tuple[float, float]:
        return float(given[PRESERVE]) / 20, 0.1 if given["seed"] == "0" else 0.3

    first, second = find_studies(results(result, swept, shares), [swept])
    assert (first.parts, second.parts) == (("attack=badnet",), ("attack=sig",))
    assert first.name != second.name
    assert first.keys == (PRESERVE,)
    assert first.names == ("preserve",)
    assert [point.at for point in first.points] == [(5.0,), (10.0,)]
    assert first.points[0].seeds == (0, 1)
    assert first.points[1].shares["CA after"] == (0.5, (0.5, 0.5))
    mean, bounds = first.points[0].shares["ASR after"]
    # Two seeds: 0.2 plus or minus 12.706 * 0.1414 / sqrt(2) = 1.27, clipped.
    assert mean == pytest.approx(0.2)
    assert bounds == (0.0, 1.0)
    assert "2 seeds" in first.title
    assert "rn50_mini, badnet → invertune" in first.title


def test_one_seed_keeps_its_own_interval(result: Make) -> None:
    swept = sweep({PRESERVE: ["5", "10"]})
    (study,) = find_studies(results(result, swept, lambda _: (0.8, 0.2)), [swept])
    assert study.points[0].shares == {"CA after": (0.8, (0.4, 0.9)), "ASR after": (0.2, (0.1, 0.6))}
    assert "1 seed;" in study.title


def test_the_default_comes_from_the_yaml_of_the_runs_defense(result: Make) -> None:
    swept = sweep({PRESERVE: ["5", "10"], "defense.tune.none": ["1", "2"]})
    (study,) = find_studies(results(result, swept, lambda _: (0.8, 0.2)), [swept])
    text = (CONF / "defense" / "invertune.yaml").read_text(encoding="utf-8")
    default = float(yaml.safe_load(text)["tune"]["weights"]["preserve"])
    assert study.defaults == (default, None)
    assert f"default: preserve {default:g}" in study.title


def test_a_yaml_that_builds_on_another_has_its_values(tmp_path: Path, result: Make) -> None:
    (tmp_path / "defense/ablation").mkdir(parents=True)
    (tmp_path / "defense/base.yaml").write_text("name: base\ntune: {steps: 3, list: [{a: 4}]}\n")
    (tmp_path / "defense/ablation/less.yaml").write_text(
        "defaults: [/defense/base@_here_, _self_]\nname: base_less\ntune: {layers: 1, flag: true}\n"
    )
    made = result(0, "base_less")
    assert default_of("defense.tune.steps", made, tmp_path) == 3
    assert default_of("defense.tune.layers", made, tmp_path) == 1
    assert default_of("defense.tune.list.0.a", made, tmp_path) == 4
    for key in (
        "defense.tune.flag",
        "defense.tune.list.1.a",
        "defense.tune",
        "nothing.tune",
        "seed",
    ):
        assert default_of(key, made, tmp_path) is None


def test_every_axis_of_the_f4_presets_has_a_default(result: Make) -> None:
    presets = sorted((CONF / "experiment").glob("f4_*.yaml"))
    assert presets
    for preset in presets:
        params = yaml.safe_load(preset.read_text(encoding="utf-8"))["hydra"]["sweeper"]["params"]
        for key, values in params.items():
            if key.startswith("defense.") and "," in str(values):
                default = default_of(key, result(0, "invertune"))
                assert default in [float(value) for value in str(values).split(",")], (preset, key)


def test_runs_that_are_not_done_are_counted_and_leave_a_gap(result: Make) -> None:
    swept = sweep({PRESERVE: ["5", "10"], ACTIVATION: ["0.1", "0.2"]})
    done = results(result, swept, lambda _: (0.8, 0.2))[:3]
    (study,) = find_studies(done, [swept])
    assert study.left == 1
    assert len(study.points) == 3
    assert "".join(diagrams.sensitivity(study)).count(">–<") == 2  # in CA and in ASR


def test_a_sweep_that_a_larger_one_holds_is_left_out(result: Make) -> None:
    small, large = sweep({PRESERVE: ["5", "10"]}, "a"), sweep({PRESERVE: ["5", "10", "20"]}, "b")
    made = results(result, large, lambda _: (0.8, 0.2))
    assert [study.name for study in find_studies(made, [small, large])] == ["b"]
    twin = sweep({PRESERVE: ["5", "10"]}, "c")
    assert [study.name for study in find_studies(made, [small, twin])] == ["c"]


def test_a_sweep_without_numbers_or_of_another_experiment_is_no_study(result: Make) -> None:
    words = sweep({"attack": ["badnet", "sig"], "seed": ["0", "1"]})
    other = sweep({PRESERVE: ["5", "10"]}, experiment="T1")
    made = results(result, words, lambda _: (0.8, 0.2))
    assert find_studies(made, [words, other]) == []


def test_names_are_as_long_as_they_have_to_be() -> None:
    assert short_names(["a.tune.steps", "a.invert.steps", "a.layers"]) == (
        "tune.steps", "invert.steps", "layers",
    )  # fmt: skip
    assert short_names(["steps"]) == ("steps",)


def study(*keys: str, values: int = 3) -> Study:
    axes = {key: [str(i + 1) for i in range(values)] for key in keys}
    points = tuple(
        Point(
            tuple(float(word.split("=")[1]) for word in words),
            (0,),
            {"CA after": (0.9, (0.8, 0.95)), "ASR after": (0.1, None)},
        )
        for words in combinations(axes)
    )
    return Study("s", "", (), tuple(keys), points, (2.0,) * len(keys))


@pytest.mark.parametrize(("count", "diagrams_"), [(1, 2), (2, 2), (3, 6)])
def test_a_further_parameter_is_a_row_of_panels(count: int, diagrams_: int) -> None:
    keys = ("x.a", "x.b", "x.c")[:count]
    made = diagrams.sensitivity(study(*keys))
    assert len(made) == diagrams_
    assert all("default" in drawing for drawing in made)
    assert ("c=3" in made[-1]) == (count == 3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_png_has_a_row_of_panels_per_further_value(count: int) -> None:
    picture = Image.open(io.BytesIO(drawn(study(*("x.a", "x.b", "x.c")[:count]))))
    assert picture.width == 1440
    assert (picture.height > 800) == (count == 3)


def write(runs: Path, swept: Sweep, made: list[dict[str, Any]]) -> None:
    for job, one in zip(swept.jobs, made, strict=True):
        write_result(runs / job.run, one)
    jobs = [vars(job) for job in swept.jobs]
    (runs / "sweeps").mkdir(exist_ok=True)
    (runs / "sweeps" / f"{swept.name}.json").write_text(json.dumps({**vars(swept), "jobs": jobs}))


def test_the_command_writes_a_picture_per_study(
    tmp_path: Path, result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = sweep({"attack": ["badnet", "sig"], PRESERVE: ["5", "10"]})
    write(tmp_path / "runs", swept, results(result, swept, lambda _: (0.8, 0.2)))
    output = tmp_path / "pictures"
    assert main([str(tmp_path / "runs"), "--output", str(output)]) == 0
    written = sorted(output.iterdir())
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    assert [path.name for path in written] == [
        "f4-0-attack_badnet.png", "f4-0-attack_sig.png", "f4-0-compared.png",
    ]  # fmt: skip
    assert all(Image.open(path).width == 1440 for path in written)


def test_studies_of_one_parameter_share_a_picture(result: Make) -> None:
    flat = sweep({"attack": ["badnet", "sig"], "model": ["a", "b"], PRESERVE: ["5", "10"]})
    alone = sweep({PRESERVE: ["5", "10"]}, "alone")
    two = sweep({"attack": ["badnet", "sig"], PRESERVE: ["5"], ACTIVATION: ["1"]}, "two")
    made = [one for each in (flat, alone, two) for one in results(result, each, lambda _: (1, 0))]
    (group,) = comparable(find_studies(made, [flat, alone, two])).values()
    assert [study.sweep for study in group] == ["f4-0"] * 4
    assert _labels(group) == ["badnet, a", "badnet, b", "sig, a", "sig, b"]
    assert _labels(group[:2]) == ["a", "b"]


def test_every_line_of_a_comparison_has_a_look_of_its_own() -> None:
    assert len(set(itertools.islice(_each_line(), 30))) == 30


def test_a_comparison_draws_every_study(result: Make) -> None:
    swept = sweep({"attack": ["badnet", "sig"], PRESERVE: ["5", "10"]})
    low, high = (
        find_studies(results(result, swept, shares), [swept])
        for shares in (
            lambda _: (0.8, 0.2),
            lambda one: (0.8, 0.2 + 0.6 * (one["attack"] == "sig")),
        )
    )
    first, second = (Image.open(io.BytesIO(comparison(group))) for group in (low, high))
    assert first.size == second.size
    assert first.tobytes() != second.tobytes()


def test_an_experiment_without_a_study_is_an_error_in_one_line(
    tmp_path: Path, result: Make
) -> None:
    swept = sweep({PRESERVE: ["5", "10"]}, experiment="T1")
    write(tmp_path, swept, results(result, swept, lambda _: (0.8, 0.2)))
    with pytest.raises(ValueError, match=r"^\S+ has no finished run of .*'F4'; .* there: T1$"):
        write_figures(tmp_path, "F4", tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
