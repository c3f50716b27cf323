"""The list of stages, and what each one depends on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import CONF
from experiments.stages.code import installed
from experiments.stages.keys import Planner, Stage
from experiments.stages.stages import Stages, list_stages

Resolve = Callable[..., dict[str, Any]]


def _stages(config: dict[str, Any]) -> dict[str, Stage]:
    return {stage.role: stage for stage in list_stages(config)}


def _names(config: dict[str, Any]) -> dict[str, str]:
    return {role: stage.key.folder_name for role, stage in _stages(config).items()}


ALL = {"pretrain", "implant", "purify/search", "purify", "evaluate/clean", "evaluate/backdoored",
       "evaluate/purified", "inspect"}  # fmt: skip
AFTER_ATTACK = ALL - {"pretrain"}
AFTER_SEARCH = {"purify/search", "purify", "evaluate/purified", "inspect"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", ALL),
        ("data.seed=1", ALL),
        ("model.pretrain.lr=0.5", ALL),
        ("attack.poison_rate=0.2", AFTER_ATTACK),
        ("defense.identify.images=3", AFTER_SEARCH),
        ("defense.tune.steps=2", AFTER_SEARCH - {"purify/search"}),
        ("+evaluation.kind=other", {role for role in ALL if "evaluate" in role} | {"inspect"}),
        ("evaluation.batch_size=7", set()),
        ("device=cpu", set()),
        ("threads=2", set()),
        ("runs_dir=elsewhere", set()),
        ("tracking=offline", set()),
    ],
)
def test_a_stage_depends_on_its_own_part_and_on_its_inputs(
    resolve: Resolve, override: str, changed: set[str]
) -> None:
    before, after = (_names(resolve("defense=tiny", *words)) for words in ([], [override]))
    assert set(before) == ALL
    assert {role for role in ALL if before[role] != after[role]} == changed


def test_every_stage_comes_after_its_inputs(resolve: Resolve) -> None:
    seen = set()
    for stage in list_stages(resolve("defense=tiny", "attack=badclip")):
        assert all(needed.key.hash in seen for needed in stage.inputs.values())
        seen.add(stage.key.hash)


def test_without_a_repair_the_backdoored_models_score_stands_for_the_purified_one(
    resolve: Resolve,
) -> None:
    none, tiny = _names(resolve("defense=none")), _names(resolve("defense=tiny"))
    assert none["evaluate/purified"] == none["evaluate/backdoored"] == tiny["evaluate/backdoored"]
    assert tiny["evaluate/purified"] != tiny["evaluate/backdoored"]


def test_a_model_of_open_clip_leaves_no_folder(resolve: Resolve) -> None:
    config = resolve()
    known = {**config["model"], "pretrain": None, "open_clip_name": "RN50-quickgelu"}
    assert "pretrain" not in Stages({**config, "model": known}).roles()
    assert "pretrain" in Stages(config).roles()


def test_nothing_heavy_is_imported_to_plan() -> None:
    code = (
        "import sys\nimport experiments.stages.stages\nimport invertune.shipped\n"
        "print([name for name in ('torch', 'numpy', 'open_clip') if name in sys.modules])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parent
    )
    assert shown.stdout == "[]\n"


def test_inputs_are_made_before_the_clock_of_a_stage_starts(
    resolve: Resolve, tmp_path: Path
) -> None:
    stages, made = Stages(resolve(f"runs_dir={tmp_path}")), list[str]()
    planner = Planner({"seed": 0}, installed())

    def note(name: str) -> Callable[..., None]:
        return lambda parts, inputs, folder: made.append(f"{name} of {sorted(inputs)}")

    first = planner.stage("first", {}, {}, note("first"))
    second = planner.stage("second", {}, {"one": first}, note("second"))
    assert stages.obtain(second).path is not None
    assert made == ["first of []", "second of ['one']"]
    assert Stages(resolve(f"runs_dir={tmp_path}")).obtain(second).path is not None
    assert len(made) == 2
    # An input that is gone is not made again for a stage that is there.
    (tmp_path / "stages" / first.key.folder_name / "stage.json").unlink()
    Stages(resolve(f"runs_dir={tmp_path}")).obtain(second)
    assert len(made) == 2


def test_sizes_that_do_not_fit_are_found_before_any_work(resolve: Resolve, tmp_path: Path) -> None:
    stages = Stages(resolve("data.image_size=48", f"runs_dir={tmp_path / 'runs'}"))
    with pytest.raises(ValueError, match="takes images of 32 pixels, data tiny has 48"):
        stages.check()
    assert not (tmp_path / "runs").exists()
