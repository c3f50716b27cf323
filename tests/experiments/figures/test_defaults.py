from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.config import CONF
from experiments.figures.defaults import default_of
from experiments.results.runs import Run

Made = Callable[..., dict[str, Any]]
AsRun = Callable[..., Run]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "defense/ablation").mkdir(parents=True)
    (tmp_path / "defense/base.yaml").write_text("name: base\ntune: {steps: 3, list: [{a: 4}]}\n")
    (tmp_path / "defense/ablation/less.yaml").write_text(
        "defaults: [/defense/base@_here_, _self_]\nname: base_less\ntune: {layers: 1, flag: true}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("defense.tune.steps", 3),
        ("defense.tune.layers", 1),
        ("defense.tune.list.0.a", 4),
        ("defense.tune.flag", None),
        ("defense.tune.list.1.a", None),
        ("defense.tune", None),
        ("nothing.tune", None),
        ("seed", None),
    ],
)
def test_a_yaml_that_builds_on_another_has_its_values(
    conf: Path, result: Made, as_run: AsRun, key: str, value: float | None
) -> None:
    assert default_of(key, as_run(result(0, "base_less")), conf) == value


def test_without_a_run_there_is_no_choice() -> None:
    assert default_of("defense.tune.steps", None) is None


def test_every_axis_of_the_f4_presets_has_a_default(result: Made, as_run: AsRun) -> None:
    presets = sorted((CONF / "experiment").glob("f4_*.yaml"))
    assert presets
    for preset in presets:
        params = yaml.safe_load(preset.read_text(encoding="utf-8"))["hydra"]["sweeper"]["params"]
        for key, values in params.items():
            if key.startswith("defense.") and "," in str(values):
                default = default_of(key, as_run(result(0, params["defense"])))
                assert default in [float(value) for value in str(values).split(",")], (preset, key)
