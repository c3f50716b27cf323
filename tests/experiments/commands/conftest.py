"""What the commands' tests share: folders of runs that were never run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.results.result import write_result

Result = dict[str, Any]
STAGES = ("purify", "inspect")


@pytest.fixture
def leave(tmp_path: Path, result: Callable[..., Result]) -> Callable[..., Result]:
    """Write a result below ``runs``, with pictures of its trigger, and return it."""

    def left(folder: str, /, seed: int = 0, asr: float = 0.9, **attack: Any) -> Result:
        made = result(seed, "mine", asr)
        made["attack"] |= attack
        made["stages"] = {role: f"stages/{role}-{folder}" for role in STAGES}
        pictures = tmp_path / "runs" / made["stages"]["inspect"] / "pictures"
        pictures.mkdir(parents=True)
        for kind, value in (("clean", 40), ("true", 140)):
            for i in range(2):
                pixels = np.full((8, 8, 3), value + i, np.uint8)
                Image.fromarray(pixels).save(pictures / f"{kind}-{i}.png")
        write_result(tmp_path / "runs" / folder, made)
        return made

    return left


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., None]:
    """Write the plan of a sweep below ``runs``: the run of id X is, or will be, in ``run-X``."""

    def planned(experiment: str, axes: Mapping[str, Sequence[str]], ids: Sequence[str]) -> None:
        combinations = itertools.product(
            *([f"{key}={value}" for value in values] for key, values in axes.items())
        )
        jobs = [
            {"overrides": list(words), "run": f"run-{name}", "id": name,
             "stages": {role: f"{role}-run-{name}" for role in STAGES}}
            for words, name in zip(combinations, ids, strict=True)
        ]  # fmt: skip
        written = {"name": "sweep-0", "experiment": experiment, "created": "2026-01-01T00:00:00",
                   "arguments": [], "axes": axes, "jobs": jobs}  # fmt: skip
        folder = tmp_path / "runs" / "sweeps"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep-0.json").write_text(json.dumps(written))

    return planned
