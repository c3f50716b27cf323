"""`invertune gallery`: every attack's trigger in one picture: clean, triggered, what it changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from experiments.figures.colors import INK
from experiments.figures.pictures import amplified, read_pictures
from experiments.figures.sheets import font
from experiments.results.measures import MEASURES, percent, share
from experiments.results.runs import Run

log = logging.getLogger(__name__)

_CELL, _GAP, _LABEL = 128, 6, 170
_HEADER = 26
_KINDS = ("clean", "true")


def first_runs(runs: Sequence[Run], model: str | None) -> list[Run]:
    """Return one run of each attack with a trigger, in order of name: that of the lowest seed."""
    chosen: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.name("attack"), run.seed)):
        if run.target is not None and model in (None, run.name("model")):
            chosen.setdefault(run.name("attack"), run)
    return list(chosen.values())


def trigger_sheet(runs: Sequence[Run], images: int) -> Image.Image:
    """Return the picture: a row per run, with ``images`` test images of each kind.

    Raises:
        ValueError: If no run has left pictures of its trigger.
    """
    rows = []
    for run in runs:
        try:
            clean, stamped = (read_pictures(run.pictures, name, images) for name in _KINDS)
        except ValueError as error:
            log.warning("%s: a picture cannot be read: %s", run.pictures, error)
            continue
        if len(clean) == 0 or clean.shape != stamped.shape:
            log.warning("%s has no pictures of its trigger", run.name("attack"))
            continue
        gain, change = amplified(clean, stamped)
        rows.append((run, gain, (clean, stamped, change)))
    if not rows:
        raise ValueError("no run there has left pictures of a trigger")
    block = images * (_CELL + _GAP) + 2 * _GAP
    size = (_LABEL + 3 * block, _HEADER + len(rows) * (_CELL + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("clean", "with the trigger", "what it changes, amplified")):
        draw.text((_LABEL + column * block, 4), title, fill=INK, font=font(14))
    for place, (run, gain, kinds) in enumerate(rows):
        top = _HEADER + place * (_CELL + _GAP)
        ca, asr = (share(run.result, "backdoored", MEASURES[name]) for name in ("CA", "ASR"))
        lines = [run.name("attack"), f"ASR {percent(asr)} %", f"CA {percent(ca)} %",
                 f"change × {gain}"]  # fmt: skip
        draw.multiline_text((8, top + 20), "\n".join(lines), fill=INK, font=font(14), spacing=6)
        for column, kind in enumerate(kinds):
            for i, image in enumerate(kind):
                left = _LABEL + column * block + i * (_CELL + _GAP)
                sheet.paste(_enlarged(image), (left, top))
    return sheet


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.NEAREST)
