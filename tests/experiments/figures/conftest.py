"""Sweeps over numbers, and runs of them with chosen rates."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from evaluation.statistics import Estimate
from experiments.figures.study import Point, Study
from experiments.results.content import Result
from experiments.results.runs import Run
from experiments.sweeps.sweep import Job, Sweep

Axes = Mapping[str, Sequence[str]]


def combinations(axes: Axes) -> list[list[str]]:
    words = [[f"{key}={value}" for value in values] for key, values in axes.items()]
    return [list(chosen) for chosen in itertools.product(*words)]


@pytest.fixture
def sweep() -> Callable[..., Sweep]:
    """Return a sweep over axes."""

    def made(axes: Axes, name: str = "f4-0", experiment: str = "F4") -> Sweep:
        ids = {" ".join(words): hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
               for words in combinations(axes)}  # fmt: skip
        jobs = [Job(words, f"run-{ids[' '.join(words)]}", ids[" ".join(words)], {})
                for words in combinations(axes)]  # fmt: skip
        own = {key: list(values) for key, values in axes.items()}
        return Sweep(name, experiment, "2026-01-01T00:00:00", own, jobs, [])

    return made


@pytest.fixture
def runs_of(result: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., list[Run]]:
    """Return a run for every job, with the CA and ASR that a function of its axes gives."""

    def made(
        sweep: Sweep, shares: Callable[[dict[str, str]], tuple[float, float]] = lambda _: (0.8, 0.2)
    ) -> list[Run]:
        runs = []
        for job in sweep.jobs:
            one = {**result(int(job.settings.get("seed", 0)), "invertune"), "id": job.id}
            rates = one["scores"]["purified"]["zero_shot"]
            for name, value in zip(("ca", "asr"), shares(job.settings), strict=True):
                rates[name] = {"value": value, "low": value / 2, "high": (1 + value) / 2, "n": 100}
            recall = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 50}
            one["scores"]["purified"]["retrieval"]["image_to_text"]["r@1"] = recall
            runs.append(Run(tmp_path / job.run, cast(Result, one)))
        return runs

    return made


@pytest.fixture
def study() -> Callable[..., Study]:
    """Return a study with the values 1, 2 and so on of every parameter; the default is 2."""

    def made(*keys: str, values: int = 3, asr: float = 0.1) -> Study:
        axes = {key: [str(i + 1) for i in range(values)] for key in keys}
        points = tuple(
            Point(
                tuple(float(word.split("=")[1]) for word in words),
                (0,),
                {"CA after": Estimate(0.9, 0.8, 0.95), "ASR after": Estimate(asr)},
            )
            for words in combinations(axes)
        )
        return Study("s", "", (), tuple(keys), points, (2.0,) * len(keys), sweep="s")

    return made
