"""Contact sheets: pictures of samples with their labels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from experiments.figures.colors import INK


def contact_sheet(images: NDArray[np.uint8], labels: Sequence[str], columns: int) -> Image.Image:
    """Return a sheet of pictures with a label below each.

    Args:
        images: (N, H, W, 3); small ones are enlarged.
        labels: N texts; long lines are wrapped, and several lines become a list.
        columns: Pictures in a row.

    Raises:
        ValueError: If there is no picture, no column, or not one label for each picture.
    """
    if len(images) != len(labels) or len(images) == 0 or columns < 1:
        raise ValueError(
            "a contact sheet takes at least 1 picture, 1 column and a label for each picture, "
            f"got {len(images)}, {columns} and {len(labels)}"
        )
    height, width = images.shape[1:3]
    scale = max(1, 192 // width)
    cell, gap, line = width * scale, 16, 18
    letter = font(13)
    letters = max(8, int(cell / letter.getlength("n")))
    texts = [
        [part for row in _items(label) for part in textwrap.wrap(row, letters)] for label in labels
    ]
    columns = min(columns, len(images))
    rows = [range(start, min(start + columns, len(images)))
            for start in range(0, len(images), columns)]  # fmt: skip
    heights = [height * scale + 6 + line * max(len(texts[i]) for i in row) for row in rows]
    size = (columns * (cell + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, row_height in zip(rows, heights, strict=True):
        for place, i in enumerate(row):
            left = gap + place * (cell + gap)
            picture = Image.fromarray(images[i])
            sheet.paste(
                picture.resize((cell, height * scale), Image.Resampling.NEAREST), (left, top)
            )
            for number, text in enumerate(texts[i]):
                below = top + height * scale + 6 + number * line
                draw.text((left, below), text, fill=INK, font=letter)
        top += row_height + gap
    return sheet


def _items(label: str) -> list[str]:
    lines = label.splitlines()
    return [f"• {line}" for line in lines] if len(lines) > 1 else lines


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of labels, at a size in pixels."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
