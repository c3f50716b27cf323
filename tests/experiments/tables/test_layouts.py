from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.statistics import Estimate
from experiments.config import PRESETS, presets
from experiments.results.runs import Run
from experiments.tables.grid import Value
from experiments.tables.layouts import DEFAULT, layout_of

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]
EXPERIMENTS = sorted(set(presets().values()))


def _write(folder: Path, name: str, **experiment: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"experiment": experiment}), encoding="utf-8")
    return path


def _cells(experiment: str, run: Run) -> dict[str, Value]:
    measures = layout_of(experiment).measures([run])
    return {measure.column.name: measure.read([run]) for measure in measures}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_of_the_paper_says_what_it_shows(experiment: str) -> None:
    layout = layout_of(experiment)
    assert layout.title
    assert layout.order < layout_of("mine").order


def test_no_two_experiments_have_one_place_on_the_page() -> None:
    orders = [layout_of(experiment).order for experiment in EXPERIMENTS]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("experiment", [*EXPERIMENTS, "mine"])
def test_columns_have_names_of_their_own(experiment: str, result: Made, as_run: AsRun) -> None:
    measures = layout_of(experiment).measures([as_run(result())])
    names = [measure.column.name for measure in measures]
    titles = [m.column.heading for m in measures if m.column.where != "csv"]
    assert len(set(names)) == len(names)
    assert len(set(titles)) == len(titles)
    assert all(names)
    assert all(titles)


def test_a_sweep_of_ones_own_gets_the_columns_of_a_repair() -> None:
    layout = layout_of("mine")
    assert layout.columns == DEFAULT
    assert layout.paired
    assert (layout.title, layout.diagrams) == ("", "none")


@pytest.mark.parametrize(
    ("defense", "number"),
    [("none", Estimate(98.36)), ("invertune", Estimate(0.49)), ("invertune_paper", Estimate(0.49)),
     ("par", "> 15"), ("x", None)],
)  # fmt: skip
def test_the_paper_stands_beside_its_own_attack(
    defense: str, number: Value, result: Made, as_run: AsRun
) -> None:
    badclip = result(defense=defense)
    badclip["attack"]["name"] = "badclip"
    assert _cells("T1", as_run(badclip))["paper_asr_after_percent"] == number
    badclip["model"]["name"] = "vit_b_16"
    assert _cells("T1", as_run(badclip))["paper_asr_after_percent"] is None


def test_a_new_experiment_is_one_yaml(tmp_path: Path, result: Made, as_run: AsRun) -> None:
    _write(
        tmp_path, "x1", id="X1", title="Mine", order=3, note="A note.", paired=False,
        diagrams="divergence", columns=["ca_after", {"asr_before": "ASR, before all"}, "recall",
                                        "paper_speed"],
        paper=[{"attack": "badnet", "speed": 7}],
    )  # fmt: skip
    layout = layout_of("X1", tmp_path)
    assert (layout.title, layout.order, layout.note) == ("Mine", 3, "A note.")
    assert (layout.paired, layout.diagrams) == (False, "divergence")
    runs = [as_run(result())]
    measures = layout.measures(runs)
    assert measures[1].column.title == "ASR, before all"
    assert measures[1].column.name == "asr_before"
    assert len(measures) == 3 + 4 * 4
    assert measures[-1].column.title == "paper: speed"
    assert measures[-1].read(runs) == Estimate(7.0)


def test_presets_of_one_id_share_their_fields(tmp_path: Path) -> None:
    _write(tmp_path, "a", id="X1", title="Mine")
    _write(tmp_path, "b", id="X1", columns=["ca"])
    (tmp_path / "c.yaml").write_text("experiment: X1\n", encoding="utf-8")
    layout = layout_of("X1", tmp_path)
    assert (layout.title, list(layout.columns)) == ("Mine", ["ca"])
    _write(tmp_path / ".", "d", id="X2", title="1")
    twice = tmp_path / "twice"
    twice.mkdir()
    _write(twice, "a", id="X1", title="Mine")
    _write(twice, "b", id="X1", title="Other")
    with pytest.raises(ValueError, match=r"b\.yaml: experiment\.title stands in a\.yaml as well"):
        layout_of("X1", twice)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ({"colour": 1}, r"has no field 'colour'; choices: id, title, order, .*paper$"),
        ({"title": 3}, r"\.title is a text, got 3$"),
        ({"order": True}, r"\.order is a whole number, got True$"),
        ({"paired": "no"}, r"\.paired is true or false, got 'no'$"),
        ({"diagrams": "pie"}, r"\.diagrams is 'pie'; choices: none, .*, divergence, roc$"),
        ({"rows": "seeds"}, r"\.rows is 'seeds'; choices: settings, methods$"),
        ({"columns": "ca"}, r"\.columns is a list of names, got 'ca'$"),
        ({"columns": ["cb"]}, r"\.columns has 'cb'; choices: ca_clean, .*recall.*paper_QUANTITY$"),
        ({"columns": ["ca", "ca"]}, r"\.columns has 'ca'; a column stands there once"),
        ({"columns": [{"recall": "x"}]}, r"\.columns has .*a group of columns has no title$"),
        ({"columns": ["paper_x"], "paper": [{"attack": "a", "y": 1}]},
         r"\.columns has 'paper_x', which no case of experiment\.paper gives; choices: paper_y$"),
        ({"paper": {"attack": "a"}}, r"\.paper is a list of cases, got"),
        ({"paper": [{"x": 1}]}, r"\.paper has \{'x': 1\}; a case says what it is of"),
    ],
)  # fmt: skip
def test_a_wrong_field_or_value_is_one_line(
    tmp_path: Path, experiment: dict[str, Any], said: str
) -> None:
    path = _write(tmp_path, "x1", id="X1", **experiment)
    with pytest.raises(ValueError, match=said) as caught:
        layout_of("X1", tmp_path)
    assert str(caught.value).startswith(f"{path}: experiment")
    assert "\n" not in str(caught.value)
    assert layout_of("X2", tmp_path).columns == DEFAULT  # another experiment is none the worse


def test_a_file_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("experiment: [a\nb: c", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml, line 2: [^\n]*$"):
        layout_of("X1", tmp_path)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_id_of_a_preset_begins_its_name(path: Path) -> None:
    assert presets()[path.stem] == path.stem.partition("_")[0].upper()
