"""The clean model: pre-trained here, taken from the package, or named where open_clip has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import SHIPPED, Config, class_fields, placeless
from experiments.stages.artifacts import LOSSES, PRETRAINED, WEIGHTS, write_json
from experiments.stages.data import whole
from experiments.stages.keys import Planner, Stage
from experiments.stages.store import CHECKPOINT

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.shipped import Shipped

log = logging.getLogger(__name__)

NAME = "pretrain"


def stage(planner: Planner, model: Config | None = None, role: str = NAME) -> Stage:
    """Return the stage of the config's model, or of a teacher's.

    A model of open_clip's leaves no files. A model that came with the package is one of its own:
    weights of another machine are not quite those that a training here gives.
    """
    model = planner.config["model"] if model is None else model
    data = whole(planner.config["data"])
    own = {k: v for k, v in placeless(model).items() if k not in ("teacher", SHIPPED)}
    config: Config = {"model": own, "data": data}
    inputs: dict[str, Stage] = {}
    if model.get("pretrain") is None:
        return planner.stage(role, config, inputs, None, name=NAME)
    if model.get("teacher"):
        inputs = {"teacher": stage(planner, model["teacher"], "pretrain/teacher")}

    def train_it(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
        _train(parts, model, made.get("teacher"), folder)

    trained = planner.stage(role, config, inputs, train_it, name=NAME, trains=True)
    shipped = _shipped(planner, model, data, trained) if model.get(SHIPPED) else None
    if shipped is None:
        return trained

    def copy_it(parts: Parts, _: Mapping[str, StageFolder], folder: Path) -> None:
        _copy(parts, model, shipped, folder)

    config = {"model": class_fields(model), "data": data, SHIPPED: shipped.card["sha256"]}
    return planner.stage(role, config, {}, copy_it, name=NAME)


def find_shipped(model: Config, data: Config, seed: int) -> Shipped | None:
    """Return the weights that come with the package for exactly this training; None if none do."""
    from invertune.shipped import find

    return find(model, data, seed)


def _shipped(planner: Planner, model: Config, data: Config, trained: Stage) -> Shipped | None:
    """Return what is shipped, unless the code that would train it is not what made it."""
    found = find_shipped(class_fields(model), data, planner.config["seed"])
    if found is not None and dict(trained.key.code) != found.card.get("code", {}):
        log.info("the shipped %s is of other code than this; it is trained here", model["name"])
        return None
    return found


def _train(parts: Parts, model: Config, teacher: StageFolder | None, folder: Path) -> None:
    from invertune.clip.weights import save_weights
    from invertune.training.train import train

    parts.seed_everything()
    parts.data.check_disjoint()  # what it draws is used in later stages
    spec = parts.model_spec(model)
    student = spec.build(parts.seed).to(parts.device)
    losses = train(
        student,
        parts.data.pairs,
        spec.pretrain,
        seed=parts.seed,
        stage=f"{NAME} {spec.name}",
        teacher=parts.load(teacher, model["teacher"]) if teacher else None,
        checkpoint=folder / CHECKPOINT,
    )
    save_weights(student, folder / WEIGHTS)
    write_json(folder / LOSSES, losses)
    write_json(folder / PRETRAINED, {"source": "trained"})


def _copy(parts: Parts, model: Config, shipped: Shipped, folder: Path) -> None:
    from invertune.clip.weights import save_weights

    parts.seed_everything()
    parts.data.check_disjoint()
    log.info(shipped.describe())
    built = parts.model_spec(model).build(parts.seed)
    shipped.load(built)
    save_weights(built, folder / WEIGHTS)
    write_json(folder / LOSSES, shipped.card["losses"])
    write_json(folder / PRETRAINED, {"source": "shipped", "sha256": shipped.card["sha256"]})
