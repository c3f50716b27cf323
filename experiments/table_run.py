"""One run as tables see it: its result, and what its stages left where they are at hand."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifacts import read_evidence, stage_folder

log = logging.getLogger(__name__)

_NO_PREDICTION = -1
_FILE = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Which test images a purified model gets right, and which ones its backdoor gets.

    Attributes:
        labels: (N,) true classes, which say whether two runs saw the same images.
        correct: (N,) clean images predicted as their own class.
        hit: (N,) triggered images predicted as the target; False for images of the target class.
            None without a trigger.
    """

    labels: NDArray[np.int32]
    correct: NDArray[np.bool_]
    hit: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Run:
    """A run below a folder of runs.

    Attributes:
        result: Content of its ``result.json``.
        runs_dir: The folder.
    """

    result: Mapping[str, Any]
    runs_dir: Path

    @functools.cached_property
    def evidence(self) -> Mapping[str, Any]:
        """What the defense found on its way; empty where it is not on this machine."""
        return read_evidence(self.runs_dir, self.result)

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """What the purified model predicted; None where that is not on this machine."""
        path = stage_folder(self.runs_dir, self.result, "evaluate/purified") / _FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                labels, clean, triggered = (
                    arrays[name] for name in ("labels", "clean", "triggered")
                )
            return Predictions(labels, clean == labels, _hits(labels, triggered))
        except Exception as error:  # zipfile and zlib raise types of their own
            log.warning("%s is left out: %s", path, error)
            return None


def _hits(labels: NDArray[np.int32], triggered: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """The target is the class whose images carry no trigger; without a trigger, none does."""
    target = np.unique(labels[triggered == _NO_PREDICTION])
    hits: NDArray[np.bool_] | None = triggered == target[0] if len(target) == 1 else None
    return hits
