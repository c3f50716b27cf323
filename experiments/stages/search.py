"""What a defense finds before it repairs: a stage where the defense says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from experiments.stages.data import further
from experiments.stages.declared import defense_stages
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import implant_inputs

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.clip.models import CLIP
    from invertune.data.bundle import CleanData
    from invertune.defense import Purified
    from invertune.evidence import Evidence


class SearchingDefense(Protocol):
    """A defense in two steps, of which the first may serve many a second one."""

    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return what is found of a backdoor; ``model`` stays as it is."""

    def repair(
        self,
        model: CLIP,
        clean: CleanData,
        found: Evidence,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Purified:
        """Return a repaired copy, given what `search` found."""


def stage(planner: Planner, backdoored: Stage) -> Stage | None:
    """Return the stage; None for a defense that does not look for a backdoor before it repairs."""
    defense, said = planner.config["defense"], defense_stages(planner.config)
    if not said.search:
        return None
    config = {name: defense[name] for name in ("_target_", *said.search)}
    config |= further(planner.config["data"], "clean")
    inputs = {"model": backdoored, **implant_inputs(backdoored)}
    return planner.stage("purify/search", config, inputs, _produce, name="search")


def searching(parts: Parts) -> SearchingDefense:
    """Return the defense as one that searches.

    Raises:
        ValueError: If it says so and cannot.
    """
    missing = [name for name in ("search", "repair") if not hasattr(parts.defense, name)]
    if missing:
        raise ValueError(
            f"defense {parts.defense.name} says that it searches, and cannot {missing[0]}"
        )
    return cast("SearchingDefense", parts.defense)


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
