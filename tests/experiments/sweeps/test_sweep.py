from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from experiments.sweeps.sweep import Job, Sweep, axes_of, load_sweeps, save_sweep, sweep_name

JOB = Job(["seed=0"], "a-run", "0123456789abcdef", {"implant": "implant-1"})
SWEEP = Sweep("sweep-1", None, "2026-01-01T00:00:00+00:00", {}, [JOB], ["seed=0"])


def test_axes_are_the_keys_of_several_values() -> None:
    combinations = [["a=1", "b=2", "+c.d=x"], ["a=1", "b=3", "+c.d=y"], ["a=1", "b=2", "+c.d=y"]]
    assert axes_of(combinations) == {"b": ["2", "3"], "c.d": ["x", "y"]}


def test_the_same_grid_has_the_same_name() -> None:
    assert sweep_name("t1", ["b", "a"]) == sweep_name("t1", ["a", "b"])
    assert sweep_name("t1", ["a"]) != sweep_name("t1", ["b"])
    assert sweep_name(None, ["a"]).startswith("sweep-")


def test_a_plan_is_read_back_and_keeps_its_birthday(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_sweep(tmp_path, SWEEP)
    path = save_sweep(tmp_path, Sweep(**{**vars(SWEEP), "created": "2027-01-01T00:00:00+00:00"}))
    assert load_sweeps(tmp_path) == [SWEEP]
    path.write_text('{"name": 3')
    assert load_sweeps(tmp_path) == []
    assert str(path) in caplog.text


def test_a_name_is_that_of_a_file_and_no_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert sweep_name("mine/grid", ["a"]).startswith("mine-grid-")
    with pytest.raises(ValueError, match=r"a sweep's name is a plain folder name .*'\.\.-grid-"):
        sweep_name("../grid", ["a"])
    path = save_sweep(tmp_path, SWEEP)
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "../../elsewhere"}))
    assert load_sweeps(tmp_path) == []  # figures would be written there
    assert "is left out: name: " in caplog.text


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ("name", "../../elsewhere"),
        ("name", "/tmp/x"),
        ("name", 3),
        ("experiment", 3),
        ("created", None),
        ("axes", []),
        ("axes", {"a": "b"}),
        ("arguments", [3]),
        ("jobs", {}),
        ("jobs", [3]),
        ("jobs/0/run", "../x"),
        ("jobs/0/run", ".."),
        ("jobs/0/id", None),
        ("jobs/0/overrides", "seed=0"),
        ("jobs/0/stages", {"implant": "../../etc"}),
        ("jobs/0/more", 1),
        ("more", 1),
    ],
)
def test_a_plan_of_other_types_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str, value: Any
) -> None:
    whole = save_sweep(tmp_path, SWEEP)
    plan: Any = asdict(SWEEP)
    part, (*parents, key) = plan, way.split("/")
    for parent in parents:
        part = part[int(parent) if isinstance(part, list) else parent]
    part[key] = value
    path = whole.with_name("z.json")
    path.write_text(json.dumps(plan))
    assert load_sweeps(tmp_path) == [SWEEP]
    assert f"{path} is left out: " in caplog.text


@pytest.mark.parametrize("content", ["[]", "null", "[" * 10**6, "3"])
def test_what_is_no_plan_at_all_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = save_sweep(tmp_path, SWEEP)
    path.write_text(content)
    assert load_sweeps(tmp_path) == []
    assert str(path) in caplog.text
