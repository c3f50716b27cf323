"""The backdoored model, with its trigger, target label and poisoned pairs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import STAGES
from experiments.stages.artifacts import BACKDOOR, LOSSES, WEIGHTS, write_json
from experiments.stages.declared import attack_stages
from experiments.stages.keys import Planner, Stage
from experiments.stages.store import CHECKPOINT

if TYPE_CHECKING:
    from attacks.attack import Backdoor
    from attacks.preflight import Finding
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.clip.models import CLIP

log = logging.getLogger(__name__)


def stage(planner: Planner, clean: Stage, trigger: Stage | None) -> Stage:
    """Return the stage; what decides a trigger that is made before is in that one's key."""
    apart = (STAGES, *attack_stages(planner.config).trigger)
    config = {k: v for k, v in planner.config["attack"].items() if k not in apart}
    inputs = {"model": clean} | ({} if trigger is None else {"trigger": trigger})
    return planner.stage("implant", config, inputs, _produce, trains=True)


def check_model(parts: Parts) -> None:
    """Find out whether the model is there, and can be trained as ``speed`` has it.

    No picture is read for that.

    Raises:
        ValueError: If its weights are not there, or it would learn something else.
    """
    spec, execution = parts.model_spec(), parts.execution()
    spec.check()
    divided = None if execution.chunk is None else getattr(parts.attack, "recipe", None)
    if divided is not None or spec.path is not None or spec.weights is not None:
        model = spec.build(parts.seed)
        if divided is not None:
            execution.check_model(model, divided.freeze_batch_norm, "implant")


def check(parts: Parts) -> None:
    """Find what is wrong with the attack before the long work.

    Raises:
        ValueError: If a value breaks its rule, or the attack has not the stages that it says.
    """
    parts.attack.check(parts.data)  # draws the pairs, which a sweep of defenses does not need


def preflight(parts: Parts) -> None:
    """Say in one block what is to be expected of the implant.

    Raises:
        ValueError: If parts of the data share a sample.
    """
    from attacks.preflight import known_trigger, preflight, survival

    trigger = known_trigger(parts.attack, parts.data)
    found = [] if trigger is None else survival(trigger, parts.data)
    _say(parts.attack.name, [*preflight(parts.attack, parts.data), *found])


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    from attacks.preflight import known_trigger, survival
    from attacks.triggers import load_trigger, save_trigger
    from invertune.clip.weights import save_weights

    name, data = parts.attack.name, parts.data
    prepared = load_trigger(made["trigger"].folder) if "trigger" in made else None
    if prepared is not None:
        _say(f"{name}, the trigger made for it", survival(prepared, data))
    parts.seed_everything()
    backdoor: Backdoor = parts.attack.implant(
        parts.load(made["model"]),
        data,
        seed=parts.seed,
        checkpoint=folder / CHECKPOINT,
        trigger=prepared,
    )
    learned = known_trigger(parts.attack, data) is None and prepared is None
    if learned and backdoor.trigger is not None:
        _say(f"{name}, the trigger learned with it", survival(backdoor.trigger, data))
    save_weights(backdoor.model, folder / WEIGHTS)
    write_json(folder / BACKDOOR, _card(parts, backdoor))
    write_json(folder / LOSSES, backdoor.losses)
    if backdoor.trigger is not None:
        save_trigger(backdoor.trigger, folder)


def _card(parts: Parts, backdoor: Backdoor) -> dict[str, object]:
    names, target = parts.data.class_names, backdoor.target_label
    return {
        "name": parts.attack.name,
        "attack": parts.config["attack"],
        "seed": parts.seed,
        "target_label": target,
        "target_name": None if target is None else names[target],
        "pairs": backdoor.pairs,
        "poisoned": backdoor.poisoned,
        "model": _described(backdoor.model),
        "data": {"name": parts.data.name, "classes": len(names)},
        "graft": backdoor.graft,
    }


def _described(model: CLIP) -> dict[str, object]:
    return {
        "name": model.name, "parameters": model.parameter_count, "image_size": model.image_size,
    }  # fmt: skip


def _say(attack: str, found: Sequence[Finding]) -> None:
    from attacks.preflight import block

    warns = any(finding.kind == "warning" for finding in found)
    log.log(logging.WARNING if warns else logging.INFO, block(attack, list(found)))
