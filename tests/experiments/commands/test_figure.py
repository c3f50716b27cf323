from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.results.result import write_result

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]
AXES = {"attack": ["badnet"], "defense.tune.weights.preserve": ["5", "10", "20"], "seed": ["0"]}


@pytest.mark.parametrize(
    ("words", "folder"), [([], "runs/figures"), (["--output", "mine"], "mine")]
)
def test_a_picture_of_every_study_is_written_and_named(
    words: list[str],
    folder: str,
    inside: Inside,
    leave: Leave,
    plan: Callable[..., None],
    tmp_path: Path,
) -> None:
    plan("F4", AXES, [leave(f"run-{seed:08x}", seed)["id"] for seed in range(3)])
    code, shown, complaint = inside("figure", "runs", *words)
    assert (code, complaint) == (0, "")
    (path,) = [tmp_path / line for line in shown.splitlines()]
    assert path.parent == tmp_path / folder
    assert Image.open(path).format == "PNG"


def test_an_experiment_without_a_sweep_is_one_line_with_those_that_have_one(
    inside: Inside, leave: Leave, plan: Callable[..., None]
) -> None:
    plan("A2", AXES, [leave(f"run-{seed:08x}", seed)["id"] for seed in range(3)])
    code, shown, complaint = inside("figure", "runs", "--experiment", "F4")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert "'F4'" in complaint
    assert complaint.endswith(": A2\n")


def test_no_folder_is_one_line(inside: Inside) -> None:
    code, shown, complaint = inside("figure", "nowhere")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: nowhere")


def test_roc_curves_of_results_that_somebody_gathered(
    inside: Inside, suspected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for number, backdoored, p in ((0, True, 1e-8), (1, False, 0.9)):
        write_result(tmp_path / "runs" / f"run-{number}", suspected(number, backdoored, p))
    code, shown, complaint = inside("figure", "runs", "--experiment", "D1")
    assert (code, complaint) == (0, "")
    assert shown == "runs/figures/d1-roc.png\n"
    assert Image.open(tmp_path / shown.strip()).format == "PNG"


def test_a_curve_is_of_both_kinds_of_models(
    inside: Inside, suspected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_result(tmp_path / "runs" / "run-0", suspected(0, True, 1e-8))
    code, shown, complaint = inside("figure", "runs", "--experiment", "D1")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert "a curve is of both, and clean ones are those of attack=none" in complaint
