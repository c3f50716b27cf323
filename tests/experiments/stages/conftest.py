"""A tiny run, made once for the tests of all stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from experiments.stages.parts import Parts
from experiments.stages.stages import Stages
from experiments.stages.store import StageFolder


@dataclass(frozen=True)
class TinyRun:
    """A run whose stages are all there; no test may change them."""

    parts: Parts
    made: dict[str, StageFolder]


@pytest.fixture(scope="session")
def tiny_run(
    resolve: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> TinyRun:
    """Return a run of a tiny model, attack and defense."""
    stages = Stages(resolve("defense=tiny", f"runs_dir={tmp_path_factory.mktemp('runs')}"))
    return TinyRun(stages.parts, stages.make())
