"""``invertune plan``: what runs will take, without a file of data and without any training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.planning import GPUS, SHARES, expand, make_plan

Inside = Callable[..., tuple[int, str, str]]


def test_a_grid_is_planned_and_nothing_is_made(inside: Inside, tmp_path: Path) -> None:
    words = ["attack=badnet,none", "defense=none,invertune", "seed=0,1", "model.shipped=false"]
    code, shown, complaint = inside("plan", *words, "--gpu", "A100")
    assert code == 0, complaint
    lines = shown.splitlines()
    # Of each seed a model, its two implants, and of each of these two ways through the defense.
    assert lines[0] == "8 runs of 38 stages, 0 of them made"
    assert any(line.startswith("rn50_mini  pretrain       2     0") for line in lines)
    assert "A100 (312 TFLOP/s, 80 GB)" in shown
    assert "disk: " in shown
    assert list(tmp_path.iterdir()) == []


def test_the_papers_table_is_planned_without_its_files(inside: Inside) -> None:
    code, shown, complaint = inside(
        "plan", "experiment=t1_classification", "data=cc3m", "model=rn50", "seed=0", "defense=none"
    )
    assert code == 0, complaint
    assert shown.startswith("7 runs of ")
    assert "not there yet: data.pairs (datasets/cc3m), " in shown
    assert "disk: 80 GB pixels of pairs" in shown


def test_numbers_follow_from_the_config() -> None:
    (config,) = expand(["attack=badnet", "defense=invertune", "model.shipped=false"])
    plan = make_plan([config])
    rows = {row.stage: row for row in plan.rows}
    # 48,000 pairs in batches of 64, three passes; 15,000 in batches of 128, two passes.
    assert rows["pretrain"].work is not None
    assert rows["pretrain"].work.trained == 3 * 48_000
    assert rows["implant"].work is not None
    assert rows["implant"].work.trained == 234 * 128
    assert rows["evaluate"].count == 3
    flop = sum(row.flop for row in plan.rows)
    expected = flop / (GPUS["H100"][0] * 1e12 * SHARES["resnet"]) / 3600
    assert plan.hours("H100") == pytest.approx(expected)
    assert plan.seconds is None


def test_what_came_with_the_package_costs_nothing() -> None:
    (config,) = expand(["attack=badnet", "defense=none"])
    rows = {row.stage: row for row in make_plan([config]).rows}
    assert rows["pretrain"].flop == 0


def test_a_method_that_does_not_say_is_named(inside: Inside) -> None:
    code, shown, _ = inside("plan", "attack=trojannet", "defense=invertune_advclip")
    assert code == 0
    assert "not counted, for the method does not say: " in shown


def test_bad_input_is_one_line(inside: Inside) -> None:
    code, _, complaint = inside("plan", "attack=nothing")
    assert code == 1
    assert "nothing" in complaint
    code, _, complaint = inside("plan", "data=cc3m", "model=rn50", "data.zero_shot.expected=null")
    assert code == 1
    assert "set data.zero_shot.expected" in complaint
    assert complaint.count("\n") == 1
    code, _, complaint = inside("plan", "--gpu", "H1000", "attack=badnet")
    assert (code, complaint.count("\n")) == (1, 1)
    assert "--gpu takes some of V100, RTX 3090" in complaint


def test_a_folder_of_configs_that_is_not_there_is_one_line(inside: Inside) -> None:
    for command in (["plan"], ["data", "check"]):
        code, _, complaint = inside(*command, "--config-dir", "nowhere", "data=icons")
        assert code == 1
        assert complaint.strip().endswith("such as DIR/conf, got nowhere")
        assert complaint.count("\n") == 1


def test_overrides_may_follow_the_names_of_gpus(inside: Inside) -> None:
    code, shown, complaint = inside("plan", "--gpu", "A100", "V100", "attack=sig", "defense=none")
    assert code == 0, complaint
    assert "A100 (" in shown
    assert "V100 (" in shown
    assert "H100 (" not in shown
