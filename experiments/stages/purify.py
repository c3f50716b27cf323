"""The repaired model and what the defense found, from the model and clean data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import STAGES
from experiments.stages.artifacts import DEFENSE, WEIGHTS, write_json
from experiments.stages.data import further
from experiments.stages.declared import defense_stages
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import graft_of, implant_inputs
from experiments.stages.search import searching
from experiments.stages.store import CHECKPOINT

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.defense import Purified
    from invertune.evidence import Evidence


def stage(planner: Planner, backdoored: Stage, found: Stage | None) -> Stage:
    """Return the stage; what decides a search is in that one's key."""
    apart = (STAGES, *defense_stages(planner.config).search)
    config = {k: v for k, v in planner.config["defense"].items() if k not in apart}
    config |= further(planner.config["data"], "clean")
    inputs = {"model": backdoored, **implant_inputs(backdoored)}
    inputs |= {} if found is None else {"search": found}
    return planner.stage("purify", config, inputs, _produce)


def check(parts: Parts) -> None:
    """Find out before the long work whether the repair can be trained as ``speed`` has it.

    Raises:
        ValueError: If it cannot.
    """
    from invertune.defense import check_trainings

    with parts.execution().used():
        check_trainings(parts.defense, parts.model_spec().untrained, "purify")


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    from invertune.clip.weights import save_weights

    parts.seed_everything()
    purified = _purified(parts, made, folder / CHECKPOINT)
    save_weights(purified.model, folder / WEIGHTS)
    purified.evidence.save(folder)
    card = {
        "name": parts.defense.name,
        "clean_samples": parts.defense.clean_samples,
        "knows": parts.defense.knows,
        "steps": purified.steps,
        "identification": _named(purified.evidence, parts.data.class_names),
        "verdict": asdict(verdict) if (verdict := purified.evidence.verdict) else None,
        "curves": purified.evidence.curves,
        "seconds": purified.evidence.seconds,
        "graft": graft_of(made["model"]),
    }
    write_json(folder / DEFENSE, card)


def _purified(parts: Parts, made: Mapping[str, StageFolder], checkpoint: Path) -> Purified:
    from invertune.evidence import Evidence

    model, clean, seed = parts.load(made["model"]), parts.clean(made), parts.seed
    if "search" not in made:
        return parts.defense.purify(model, clean, seed=seed, checkpoint=checkpoint)
    found = Evidence.load(made["search"].folder)
    return searching(parts).repair(model, clean, found, seed=seed, checkpoint=checkpoint)


def _named(evidence: Evidence, names: tuple[str, ...]) -> dict[str, object] | None:
    found = evidence.identification
    if found is None:
        return None
    return {
        "target_label": names[found.target_label],
        "alike": [names[label] for label in found.targets if label != found.target_label],
        "gain": found.gain,
        "runner_up": names[found.runner_up],
        "runner_up_gain": found.runner_up_gain,
    }
