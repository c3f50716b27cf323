"""How the inverted trigger compares with the true one, and pictures of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.stages.artifacts import INVERSION, PICTURES, write_json
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import backdoor_of

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder

    Stamp = Callable[[Tensor], Tensor]

_SAMPLES = 4


def stage(planner: Planner, purified: Stage, backdoored: Stage) -> Stage:
    """Return the stage."""
    own = {k: v for k, v in planner.config["evaluation"].items() if k != "batch_size"}
    inputs = {"evidence": purified, "backdoor": backdoored}
    return planner.stage("inspect", own, inputs, _produce)


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    from evaluation.inversion import evaluate_inversion
    from invertune.evidence import Evidence

    parts.seed_everything()
    backdoored = made["backdoor"]
    trigger, target = backdoor_of(backdoored)
    inverted = Evidence.load(made["evidence"].folder).triggers
    found = None
    if inverted and trigger is not None and target is not None:
        model = parts.load(backdoored)
        found = evaluate_inversion(model, parts.data, inverted, trigger, target)
    write_json(folder / INVERSION, found)
    stamps: dict[str, Stamp | None] = {"clean": None}
    stamps |= {} if trigger is None else {"true": trigger}
    stamps |= {f"inverted{i}": stamp for i, stamp in enumerate(inverted)}
    _draw(folder / PICTURES, parts.data.zero_shot.images[:_SAMPLES], stamps)


def _draw(folder: Path, images: Tensor, stamps: Mapping[str, Stamp | None]) -> None:
    from PIL import Image

    from invertune.data.bundle import to_float

    folder.mkdir()
    for name, stamp in stamps.items():
        stamped = images if stamp is None else stamp(to_float(images)).mul(255).round()
        for i, image in enumerate(stamped.byte().permute(0, 2, 3, 1).cpu().numpy()):
            Image.fromarray(image).save(folder / f"{name}-{i}.png")
