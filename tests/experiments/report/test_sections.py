from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.report.sections import experiment_sections
from experiments.results.runs import load_runs
from experiments.sweeps.sweep import load_sweeps

Write = Callable[..., dict[str, Any]]
Plan = Callable[..., None]
CLUSTERS = "defense.tune.clusters"


def test_an_experiment_has_a_table_and_its_diagrams(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan,
    read_page: Callable[..., Any],
) -> None:  # fmt: skip
    attack = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    runs = [write_run(tmp_path, 1, data_config()),
            write_run(tmp_path, 2, data_config(), attack=attack)]  # fmt: skip
    words = [["attack=badnet"], ["attack=none"]]
    for name in ("F1", "F3"):
        write_sweep(tmp_path, name, {"attack": ["badnet", "none"]}, runs, words)
    page = read_page()
    tables = [table for table in page.all("table") if table.get("class") == "sortable"]
    assert len(tables) == 3  # F1, F3 and all runs
    assert len(page.all("svg")) == 2 * 2 + 2 * 4  # and four in the details of each run
    shown = [drawing["aria-label"] or "" for drawing in page.all("svg")]
    assert [label for label in shown if label.startswith("Predicted classes")] == [
        "Predicted classes, rn50_mini, badnet, seed 1",
        "Predicted classes, rn50_mini, none, seed 2",
    ]
    assert {"F1", "F3", "summary", "details", "triggers"} <= {tag.get("id") for _, tag in page.tags}


def test_studies_are_drawn_with_their_defaults_and_without_a_clash_of_ids(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan,
    read_page: Callable[..., Any],
) -> None:  # fmt: skip
    attack = {"target_label": "lemon", "poison_rate": 0.1, "poisoned": 1, "pairs": 8}
    words = [[f"attack={name}", f"{CLUSTERS}={value}"] for name in ("a", "b") for value in (2, 4)]
    runs = [write_run(tmp_path, i, data_config(), attack={**attack, "name": own[0][-1]})
            for i, own in enumerate(words)]  # fmt: skip
    write_sweep(tmp_path, "F4", {"attack": ["a", "b"], CLUSTERS: ["2", "4"]}, runs, words)
    page = read_page()
    labels = [drawing["aria-label"] for drawing in page.all("svg")][:3]
    assert labels[0].startswith("clusters; rn50_mini, a → invertune; 1 seed; default: clusters ")
    assert labels[1].startswith("clusters; rn50_mini, b → invertune")
    assert labels[2] == "clusters, all of f4-00000000"
    ids = Counter(tag["id"] for _, tag in page.tags if "id" in tag)
    assert max(ids.values()) == 1
    referred = {name for _, tag in page.tags for value in tag.values()
                for name in re.findall(r"url\(#([^)]*)\)", value or "")}  # fmt: skip
    assert referred
    assert referred <= set(ids)
    assert not re.search("<style[^>]*>[*]", page.html)  # which would be for the whole page


def test_sections_are_in_the_order_of_the_yamls_and_ones_own_come_last(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan
) -> None:
    run = write_run(tmp_path, 1, data_config())
    for name in ("MINE", "F4", "A1", "T1"):
        write_sweep(tmp_path, name, {}, [run], [["seed=1"]])
    sections = experiment_sections(load_runs(tmp_path), load_sweeps(tmp_path), tmp_path)
    assert [section.title for section in sections] == [
        "A1: Attacks", "T1: Classification", "F4: Sensitivity to parameters", "MINE",
    ]  # fmt: skip
    assert all(section.table for section in sections)


def test_an_experiment_without_a_table_says_why(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan,
    monkeypatch: pytest.MonkeyPatch, read_page: Callable[..., Any],
) -> None:  # fmt: skip
    def refuse(_: str) -> None:
        raise ValueError("t1.yaml: experiment has no field 'colour'")

    monkeypatch.setattr("experiments.report.sections.layout_of", refuse)
    write_sweep(tmp_path, "T1", {}, [write_run(tmp_path, 1, data_config())], [["seed=1"]])
    assert "No table: t1.yaml: experiment has no field 'colour'" in read_page().text


def test_what_is_left_to_run_stands_below_the_table(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan,
    read_page: Callable[..., Any],
) -> None:  # fmt: skip
    run = write_run(tmp_path, 1, data_config())
    missing = {**run, "id": f"{2:016x}"}
    words = [["attack=badnet"], ["attack=sig"]]
    write_sweep(tmp_path, "T1", {"attack": ["badnet", "sig"]}, [run, missing], words)
    text = read_page().text
    assert "left: 1 of 2 runs" in text
    assert "attack=sig: not run" in text


def test_of_several_seeds_the_lowest_is_drawn(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan
) -> None:
    runs = [write_run(tmp_path, seed, data_config()) for seed in (3, 1, 2)]
    write_sweep(tmp_path, "F3", {"seed": ["3", "1", "2"]}, runs, [[f"seed={s}"] for s in (3, 1, 2)])
    (section,) = experiment_sections(load_runs(tmp_path), load_sweeps(tmp_path), tmp_path)
    assert [chart.title for chart in section.charts] == ["rn50_mini, badnet, seed 1"]


def test_roc_curves_are_drawn_beside_the_table_of_methods(
    tmp_path: Path, write_run: Write, data_config: Write, write_sweep: Plan,
    read_page: Callable[..., Any],
) -> None:  # fmt: skip
    none = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    told = {"alarm": 0.01, "clear": 0.1, "form": "mask", "lead": 0.5}
    runs = [
        write_run(tmp_path, 1, data_config(), verdict={**told, "kind": "backdoored", "p": 1e-4}),
        write_run(tmp_path, 2, data_config(), verdict={**told, "kind": "clean", "p": 0.9},
                  attack=none),
    ]  # fmt: skip
    write_sweep(tmp_path, "D1", {"attack": ["badnet", "none"]}, runs,
                [["attack=badnet"], ["attack=none"]])  # fmt: skip
    page = read_page()
    drawn = [one["aria-label"] for one in page.all("svg") if "taken for" in one["aria-label"]]
    assert len(drawn) == 1
    assert "1 backdoored and 1 clean models" in drawn[0]
    assert "invertune: verdict" in page.text
    assert "false alarms there" in page.text
