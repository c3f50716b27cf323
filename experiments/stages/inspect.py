"""How the inverted trigger compares with the true one, and pictures of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.stages.artifacts import INVERSION, PICTURES, write_json
from experiments.stages.data import further
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import backdoor_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder

    Stamp = Callable[[Tensor], Tensor]

_SAMPLES = 4
_ARROWS, _ARROWS_SIDE = 10, 384  # arrows a row, and pixels of their picture's side
INK, ALARM = "#1f2933", "#c8433f"  # where an arrow begins, and its head


def stage(planner: Planner, purified: Stage, backdoored: Stage) -> Stage:
    """Return the stage."""
    own = {k: v for k, v in planner.config["evaluation"].items() if k != "batch_size"}
    own |= further(planner.config["data"], "zero_shot")
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
    pictures = folder / PICTURES
    _draw(pictures, parts.data.zero_shot.images[:_SAMPLES], stamps)
    for i, found_trigger in enumerate(inverted):
        if found_trigger.flow is not None:
            arrows(found_trigger.flow).save(pictures / f"flow{i}-0.png")


def arrows(flow: Tensor) -> Image.Image:
    """Return a warp as arrows: from where a pixel is to where it comes from, the red end.

    Args:
        flow: (2, H, W) shifts along x and y, in pixels.
    """
    from PIL import Image, ImageDraw

    height, width = flow.shape[-2:]
    zoom = max(1, round(_ARROWS_SIDE / max(height, width)))
    picture = Image.new("RGB", (width * zoom, height * zoom), "white")
    pen, step = ImageDraw.Draw(picture), max(1, max(height, width) // _ARROWS)
    for row in range(step // 2, height, step):
        for column in range(step // 2, width, step):
            x, y = flow[:, row, column].tolist()
            start = (zoom * (column + 0.5), zoom * (row + 0.5))
            end = (start[0] + zoom * x, start[1] + zoom * y)
            pen.line([start, end], fill=INK, width=2)
            pen.ellipse([end[0] - 3, end[1] - 3, end[0] + 3, end[1] + 3], fill=ALARM)
    return picture


def _draw(folder: Path, images: Tensor, stamps: Mapping[str, Stamp | None]) -> None:
    from PIL import Image

    from invertune.data.bundle import to_float

    folder.mkdir()
    for name, stamp in stamps.items():
        stamped = images if stamp is None else stamp(to_float(images)).mul(255).round()
        for i, image in enumerate(stamped.byte().permute(0, 2, 3, 1).cpu().numpy()):
            Image.fromarray(image).save(folder / f"{name}-{i}.png")
