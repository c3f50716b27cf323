"""The score of one model against the backdoor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.stages.artifacts import PREDICTIONS, SCORE, write_json
from experiments.stages.data import further
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import backdoor_of

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder


def stage(planner: Planner, model: str, weights: Stage, backdoored: Stage) -> Stage:
    """Return the stage; the batch size does not change it.

    Args:
        planner: Makes it.
        model: ``clean``, ``backdoored`` or ``purified``.
        weights: The stage of that model.
        backdoored: The stage of the backdoor.
    """
    own = {k: v for k, v in planner.config["evaluation"].items() if k != "batch_size"}
    own |= further(planner.config["data"], "zero_shot", "retrieval")
    inputs = {"model": weights, "backdoor": backdoored}
    return planner.stage(f"evaluate/{model}", own, inputs, _produce, name="evaluate")


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    import numpy as np

    from evaluation.evaluate import evaluate

    parts.seed_everything()
    trigger, target = backdoor_of(made["backdoor"])
    model = parts.load(made["model"])
    found = evaluate(model, parts.data, trigger, target, batch_size=parts.batch_size)
    write_json(folder / SCORE, found.scores)
    classes = {k: v.numpy().astype("int32") for k, v in vars(found.predictions).items()}
    np.savez_compressed(folder / PREDICTIONS, **classes)
