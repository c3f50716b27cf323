from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.figures.gallery import first_runs, trigger_sheet
from experiments.results.result import write_result
from experiments.results.runs import Run, load_runs


def _leave(runs_dir: Path, result: dict[str, Any], name: str, shift: int) -> dict[str, Any]:
    """Write a result of an attack, and pictures whose trigger adds ``shift`` to every value."""
    result["attack"]["name"] = name
    result["stages"] = {"inspect": f"stages/inspect-{name}"}
    folder = runs_dir / "stages" / f"inspect-{name}" / "pictures"
    folder.mkdir(parents=True)
    for i in range(3):
        clean = np.full((8, 8, 3), 40 + i, np.uint8)
        Image.fromarray(clean).save(folder / f"clean-{i}.png")
        Image.fromarray(clean + np.uint8(shift)).save(folder / f"true-{i}.png")
    write_result(runs_dir / name, result)
    return result


def test_there_is_a_row_for_each_attack(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    _leave(tmp_path, result(), "badnet", 100)
    _leave(tmp_path, result(), "sig", 10)
    pixels = np.asarray(trigger_sheet(first_runs(load_runs(tmp_path), None), 1))
    colors = {tuple(color) for color in pixels.reshape(-1, 3).tolist()}
    # Clean, both triggers, and both changes on gray: 100 as it is, 10 eight times.
    assert {(40,) * 3, (140,) * 3, (50,) * 3, (228,) * 3, (208,) * 3} <= colors


def test_an_attack_is_shown_by_its_first_seed_and_the_control_not_at_all(
    result: Callable[..., dict[str, Any]], as_run: Callable[..., Run]
) -> None:
    control = result()
    control["attack"] = {**control["attack"], "name": "none", "target_label": None}
    shown = first_runs([as_run(one) for one in (result(2), result(1), control)], model=None)
    assert [run.seed for run in shown] == [1]
    assert first_runs([as_run(result(1))], model="rn101_mini") == []


def test_runs_without_pictures_are_one_clear_line(
    result: Callable[..., dict[str, Any]], as_run: Callable[..., Run]
) -> None:
    with pytest.raises(ValueError, match="has left pictures of a trigger"):
        trigger_sheet([as_run(result())], 1)
