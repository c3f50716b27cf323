"""A sweep of one attack, three defenses and two seeds, and tables as they are read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.result import write_result

Made = Callable[..., dict[str, Any]]
DEFENSES = ("none", "invertune", "other")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


@pytest.fixture
def read() -> Callable[[str], list[dict[str, str]]]:
    """Return the rows of a Markdown table, title -> cell."""

    def rows(text: str) -> list[dict[str, str]]:
        lines = [line for line in text.splitlines() if line.startswith("|")]
        return [dict(zip(_cells(lines[0]), _cells(line), strict=True)) for line in lines[2:]]

    return rows


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    """Return a config in which all follows the seed, but for the steps."""

    def made(seed: int, steps: float = 240) -> dict[str, Any]:
        return {
            "seed": seed,
            "runs_dir": f"runs{seed}",
            "data": {"seed": 0},
            "attack": {"trigger": {"seed": seed}},
            "defense": {"tune": {"steps": steps}},
        }

    return made


@pytest.fixture
def grid(
    result: Made, config: Made, plan: Callable[..., Path], tmp_path: Path
) -> Callable[..., Path]:
    """Return a folder with T1: one attack, three defenses and two seeds."""

    def make(change: Callable[[dict[str, Any]], None] = lambda _: None, left: int = 0) -> Path:
        jobs = []
        for i, (defense, seed) in enumerate((d, s) for d in DEFENSES for s in (0, 1)):
            made = {**result(seed, defense), "id": f"{i:08x}00000000", "config": config(seed)}
            after = {"none": 0.9, "invertune": 0.01, "other": 0.0102}[defense]
            rate = {"value": after, "low": max(0.0, after - 0.1), "high": min(1.0, after + 0.1)}
            made["scores"]["purified"]["zero_shot"]["asr"] = {**rate, "n": 100}
            change(made)
            run = f"rn50_mini-badnet-{defense}-seed{seed}-{i:08x}"
            overrides = ["attack=badnet", f"defense={defense}", f"seed={seed}"]
            stages = {role: Path(way).name for role, way in made.get("stages", {}).items()}
            jobs.append({"overrides": overrides, "run": run, "id": made["id"], "stages": stages})
            if i < 6 - left:
                write_result(tmp_path / run, made)
        plan("t1_classification", "T1", jobs)
        return tmp_path

    return make
