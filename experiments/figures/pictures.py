"""Pictures of the page: triggers on test images, from the files that a run left."""

from __future__ import annotations

import base64
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.results.content import Result

log = logging.getLogger(__name__)

_LARGEST_SIDE = 4096  # pixels

_SIDE, _GAP, _COLORS = 96, 3, 64


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        title: Stands beside it.
        source: Data URI of a PNG.
        width, height: In pixels.
        text: What it shows, for those who cannot see it.
    """

    title: str
    source: str
    width: int
    height: int
    text: str


def trigger_rows(folder: Path, best: int, count: int) -> list[Picture]:
    """Return strips of the same test images: clean, under each trigger, and what that changes.

    Args:
        folder: The pictures of a stage ``inspect``: ``clean-0.png``, ``true-0.png``,
            ``inverted0-0.png`` and so on.
        best: Which inverted trigger to show.
        count: Test images in a strip.

    Returns:
        Nothing where there is no trigger to compare, or where a file cannot be read.
    """
    titles = {"true": "True trigger", f"inverted{best}": "Inverted trigger"}
    try:
        clean = read_pictures(folder, "clean", count)
        stamped = {title: read_pictures(folder, name, count) for name, title in titles.items()}
    except ValueError as error:
        log.warning("%s: a picture cannot be read: %s", folder, error)
        return []
    shown = {title: images for title, images in stamped.items() if len(images)}
    if not len(clean) or not shown:
        return []
    if any(images.shape != clean.shape for images in shown.values()):
        log.warning("%s: the pictures are not of the same test images", folder)
        return []
    rows = [_picture("Clean", strip(clean), "Test images without a trigger")]
    for title, images in shown.items():
        rows.append(_picture(title, strip(images), f"{title} on test images"))
        gain, change = amplified(clean, images)
        name = f"its change × {gain}"
        rows.append(_picture(name, strip(change), f"{title}, {name}"))
    return [*rows, *_flow(folder, best)]


def _flow(folder: Path, best: int) -> list[Picture]:
    """Return the arrows of an inverted trigger that is a warp."""
    try:
        images = read_pictures(folder, f"flow{best}", 1)
    except ValueError as error:
        log.warning("%s: a picture cannot be read: %s", folder, error)
        return []
    title = "where pixels come from"
    return [
        _picture(title, Image.fromarray(image), f"Inverted trigger, {title}, as arrows")
        for image in images
    ]


def read_pictures(folder: Path, name: str, count: int) -> NDArray[np.uint8]:
    """Return up to ``count`` pictures, (N, H, W, 3).

    Raises:
        ValueError: If one cannot be read, or they are of several sizes.
    """
    paths = [folder / f"{name}-{i}.png" for i in range(count)]
    images = [_read_picture(path) for path in paths if path.is_file()]
    return np.stack(images) if images else np.empty((0, 0, 0, 3), np.uint8)


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if max(image.size) > _LARGEST_SIDE:  # before it is unpacked
                raise ValueError(f"it is {image.width} x {image.height} pixels large")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # of a broken picture Pillow and zlib raise types of their own
        raise ValueError(f"{path.name}: {error or type(error).__name__}") from error


def amplified(
    clean: NDArray[np.uint8], changed: NDArray[np.uint8]
) -> tuple[int, NDArray[np.uint8]]:
    """Return what a trigger changes, on gray, with the factor that makes it visible.

    Args:
        clean, changed: (N, H, W, 3) the same images without and with the trigger.

    Returns:
        The largest power of two, up to 16, that leaves nearly all of the change in range; and
        (N, H, W, 3) gray 128 plus that often the change.
    """
    change = changed.astype(np.int32) - clean
    largest = float(np.quantile(np.abs(change), 0.995, method="lower")) / 255
    gain = 1 << min(4, max(0, math.floor(math.log2(0.5 / max(largest, 1e-6)))))
    return gain, (128 + gain * change).clip(0, 255).astype(np.uint8)


def strip(images: NDArray[np.uint8]) -> Image.Image:
    """Return images, (N, H, W, 3), side by side; larger ones are reduced to 96 pixels."""
    pictures = [Image.fromarray(image) for image in images]
    for picture in pictures:
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + _GAP) - _GAP, height), "white")
    for place, picture in enumerate(pictures):
        row.paste(picture, (place * (width + _GAP), 0))
    return row


def png(picture: Image.Image, colors: int | None = _COLORS) -> bytes:
    """Return the picture as a PNG file, with a palette of that many colors or None for all."""
    if colors is not None:
        method = Image.Quantize.FASTOCTREE
        picture = picture.convert("RGB").quantize(colors, method, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(title: str, picture: Image.Image, text: str) -> Picture:
    data = base64.b64encode(png(picture)).decode()
    return Picture(title, f"data:image/png;base64,{data}", picture.width, picture.height, text)


def best_trigger(result: Result) -> int:
    """Return the index of the inverted trigger with the highest ASR, or 0 if not measured."""
    measured = (result["inversion"] or {}).get("per_trigger", [])
    order = ((row["asr"], -row["mask_share"], -i) for i, row in enumerate(measured))
    return -max(order, default=(0, 0, 0))[2]
