"""The trigger that an attack makes before it implants: a stage where the attack says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.stages.data import whole
from experiments.stages.declared import attack_stages
from experiments.stages.keys import Planner, Stage

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder


def stage(planner: Planner, clean: Stage) -> Stage | None:
    """Return the stage; None for an attack that has its trigger, or learns it with the implant."""
    attack, said = planner.config["attack"], attack_stages(planner.config)
    if not said.trigger:
        return None
    config = {name: attack[name] for name in ("_target_", *said.trigger)}
    if said.trigger_from == "data":
        config["data"] = whole(planner.config["data"])
        return planner.stage("implant/trigger", config, {}, _produce, name="trigger", seed=0)
    return planner.stage("implant/trigger", config, {"model": clean}, _produce, name="trigger")


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    from attacks.triggers import save_trigger

    parts.seed_everything()
    parts.data.check_disjoint()
    model = parts.load(made["model"]) if "model" in made else None
    trigger = parts.attack.prepare(model, parts.data, seed=parts.seed)
    if trigger is None:
        raise ValueError(
            f"attack {parts.attack.name} says that it makes its trigger, and makes none"
        )
    save_trigger(trigger, folder)
