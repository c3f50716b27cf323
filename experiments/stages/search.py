"""What a defense finds before it repairs: a stage where the defense says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from experiments.stages.data import further
from experiments.stages.declared import defense_stages
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import implant_inputs

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.defense import Searching


def stage(planner: Planner, backdoored: Stage) -> Stage | None:
    """Return the stage; None for a defense that does not look for a backdoor before it repairs."""
    defense, said = planner.config["defense"], defense_stages(planner.config)
    if not said.search:
        return None
    config = {name: defense[name] for name in ("_target_", *said.search)}
    config |= further(planner.config["data"], "clean")
    inputs = {"model": backdoored, **implant_inputs(backdoored)}
    return planner.stage("purify/search", config, inputs, _produce, name="search")


def searching(parts: Parts) -> Searching:
    """Return the defense as one that searches.

    Raises:
        ValueError: If it says so and cannot.
    """
    missing = [name for name in ("search", "repair") if not hasattr(parts.defense, name)]
    if missing:
        raise ValueError(
            f"defense {parts.defense.name} says that it searches, and cannot {missing[0]}"
        )
    return cast("Searching", parts.defense)


def check(parts: Parts) -> None:
    """Find out before the long work whether the defense has the steps that it says.

    Raises:
        ValueError: If it has not.
    """
    if defense_stages(parts.config).search:
        searching(parts)


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    parts.seed_everything()
    model, clean = parts.load(made["model"]), parts.clean(made)
    searching(parts).search(model, clean, seed=parts.seed).save(folder)
