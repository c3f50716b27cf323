"""`invertune gallery`: every attack's trigger in one picture: clean, triggered, what it changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from experiments.figures.colors import INK
from experiments.figures.pictures import amplified, read_pictures
from experiments.figures.sheets import font
from experiments.results.runs import stage_folder

log = logging.getLogger(__name__)

_CELL, _GAP, _LABEL = 128, 6, 170
_HEADER = 26


def first_runs(results: Sequence[Mapping[str, Any]], model: str | None) -> list[Mapping[str, Any]]:
    """Return one run of each attack with a trigger, in order of name: that of the lowest seed."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for result in sorted(results, key=lambda result: (result["attack"]["name"], result["seed"])):
        if result["attack"]["target_label"] is None:
            continue
        if model is None or result["model"]["name"] == model:
            chosen.setdefault(result["attack"]["name"], result)
    return list(chosen.values())


def trigger_sheet(results: Sequence[Mapping[str, Any]], runs_dir: Path, images: int) -> Image.Image:
    """Return the picture: a row per run, with ``images`` test images of each kind.

    Raises:
        ValueError: If no run has left pictures of its trigger.
    """
    rows = []
    for result in results:
        pictures = stage_folder(runs_dir, result, "inspect") / "pictures"
        clean, stamped = (read_pictures(pictures, name, images) for name in ("clean", "true"))
        if len(clean) == 0 or clean.shape != stamped.shape:
            log.warning("%s has no pictures of its trigger", result["attack"]["name"])
            continue
        gain, change = amplified(clean, stamped)
        rows.append((result, gain, (clean, stamped, change)))
    if not rows:
        raise ValueError(f"no run below {runs_dir} has left pictures of a trigger")
    block = images * (_CELL + _GAP) + 2 * _GAP
    size = (_LABEL + 3 * block, _HEADER + len(rows) * (_CELL + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("clean", "with the trigger", "what it changes, amplified")):
        draw.text((_LABEL + column * block, 4), title, fill=INK, font=font(14))
    for place, (result, gain, kinds) in enumerate(rows):
        top = _HEADER + place * (_CELL + _GAP)
        score = result["scores"]["backdoored"]["zero_shot"]
        lines = [result["attack"]["name"], f"ASR {score['asr']['value']:.1%}",
                 f"CA {score['ca']['value']:.1%}", f"change × {gain}"]  # fmt: skip
        draw.multiline_text((8, top + 20), "\n".join(lines), fill=INK, font=font(14), spacing=6)
        for column, kind in enumerate(kinds):
            for i, image in enumerate(kind):
                left = _LABEL + column * block + i * (_CELL + _GAP)
                sheet.paste(_enlarged(image), (left, top))
    return sheet


def _enlarged(image: np.ndarray[Any, np.dtype[np.uint8]]) -> Image.Image:
    return Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.NEAREST)
