"""A picture-caption world that any machine can draw: named pictograms on textured grounds.

The pictograms are Font Awesome's solid glyphs (package ``fontawesomefree``, icons CC BY 4.0, font
SIL OFL 1.1). Every sample is a handful of random numbers drawn from a seeded generator; a batch of
samples is rendered at once, where it is looked at, so that a part of any size costs a few seconds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fontawesomefree
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from invertune.data.bundle import DataBundle, ImageTextPairs, LabeledImages, RetrievalSet
from invertune.data.captions import Captioner
from invertune.data.images import Images
from invertune.data.names import check_class_names, check_named, check_templates
from invertune.data.scenes import Scenes, SceneStyle, draw_scenes, render
from invertune.fields import check_counts, check_is, check_numbers, check_types, is_number
from invertune.seeds import seeded

_GLYPH_SIDE = 96


def _asset(*parts: str) -> Path:
    root = Path(fontawesomefree.__file__).parent / "static" / "fontawesomefree"
    return root.joinpath(*parts)


@functools.cache
def _codepoints() -> dict[str, str]:
    metadata = json.loads(_asset("metadata", "icons.json").read_text(encoding="utf-8"))
    return {
        name: chr(int(icon["unicode"], 16))
        for name, icon in metadata.items()
        if "solid" in icon["styles"]
    }


def check_icons(icons: Sequence[str]) -> None:
    """Look for icons in the installed package.

    Raises:
        ValueError: If a name is not a solid icon of it.
    """
    unknown = [icon for icon in icons if not isinstance(icon, str) or icon not in _codepoints()]
    if unknown:
        raise ValueError(
            f"{unknown} are no solid icons of fontawesomefree; its metadata/icons.json lists them"
        )


@functools.cache
def draw_glyphs(icons: tuple[str, ...], side: int = _GLYPH_SIDE) -> Tensor:
    """Return the pictograms as coverage masks, (K, 1, side, side) in [0, 1], centered.

    Args:
        icons: Names as Font Awesome has them, such as ``"apple-whole"``.
        side: Side of the square canvas, in pixels; the glyph's longer side fills 5/6 of it.

    Raises:
        ValueError: If a name is not a solid icon of the installed package.
    """
    check_icons(icons)
    codepoints = _codepoints()
    font = ImageFont.truetype(str(_asset("webfonts", "fa-solid-900.ttf")), 2 * side)
    room = round(side * 5 / 6)
    masks = []
    for icon in icons:
        left, top, right, bottom = font.getbbox(codepoints[icon])
        width, height = int(right - left), int(bottom - top)
        glyph = Image.new("L", (width, height))
        ImageDraw.Draw(glyph).text((-left, -top), codepoints[icon], fill=255, font=font)
        scale = room / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("L", (side, side))
        corner = ((side - size[0]) // 2, (side - size[1]) // 2)
        canvas.paste(glyph.resize(size, Image.Resampling.LANCZOS), corner)
        masks.append(torch.from_numpy(np.asarray(canvas).copy()))
    return torch.stack(masks).unsqueeze(1).float() / 255


# The test parts were drawn anew once the default settings stood: no reported number is of an image
# that a setting was chosen on.
_STREAMS = {"zero_shot": "zero_shot/test", "retrieval": "retrieval/test"}


@dataclass(frozen=True)
class IconWorld:
    """The data bundle ``data=icons``: four disjoint parts of rendered, captioned pictograms.

    Attributes:
        name: Name of the data set in results.
        seed: Decides every picture and caption.
        image_size: Side of the pictures, in pixels.
        classes: Class name -> icon name; order gives the class index.
        colors: Color name -> RGB in 0 to 255.
        style: How samples vary.
        captions: How samples are described.
        templates: Zero-shot prompt templates, with ``{}`` for the class name with its article.
        sizes: Number of samples of ``pairs``, ``clean``, ``zero_shot`` and ``retrieval``.
        more_clean: Number of further clean samples, after the others and drawn by themselves: they
            are for methods that need many, and nothing else changes by them.
    """

    name: str
    seed: int
    image_size: int
    classes: Mapping[str, str]
    colors: Mapping[str, Sequence[int]]
    style: SceneStyle
    captions: Captioner
    templates: Sequence[str]
    sizes: Mapping[str, int]
    more_clean: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_named(self.classes, "classes", "class names to icons")
        check_class_names(list(self.classes), "classes")
        check_named(self.colors, "colors", "names to RGB")
        check_templates(self.templates)
        check_numbers(self, "sizes")
        check_counts(self, "image_size")
        check_counts(self, "more_clean", least=0)
        check_is(self, "style", SceneStyle)
        check_is(self, "captions", Captioner)
        for name, rgb in self.colors.items():
            if len(rgb) != 3 or not all(is_number(one) and 0 <= one <= 255 for one in rgb):
                raise ValueError(f"colors.{name} is three numbers from 0 to 255, got {rgb!r}")

    def load(self) -> DataBundle:
        """Return the bundle; each part is drawn when it is first used.

        Raises:
            ValueError: If a part's size is not positive or an icon does not exist.
        """
        for part in ("pairs", "clean", "zero_shot", "retrieval"):
            if self.sizes.get(part, 0) < 1:
                raise ValueError(
                    f"data.sizes.{part} is a number of samples, at least 1, "
                    f"got {self.sizes.get(part)}"
                )
        check_icons(list(self.classes.values()))
        return DataBundle(
            name=self.name,
            class_names=tuple(self.classes),
            prompts=tuple(self.captions.phrase(name) for name in self.classes),
            templates=tuple(self.templates),
            image_size=self.image_size,
            make_pairs=self._pairs,
            make_clean=self._clean,
            make_zero_shot=lambda: self._labeled("zero_shot", self._draw("zero_shot")[0]),
            make_retrieval=self._retrieval,
            make_clean_captions=self._clean_captions,
            make_ids=self._ids,
            plurals=tuple(self.captions.plurals),
        )

    def _draw(self, part: str) -> tuple[Scenes, torch.Generator]:
        return self._drawn(self.sizes[part], _STREAMS.get(part, part))

    def _drawn(self, count: int, stream: str) -> tuple[Scenes, torch.Generator]:
        generator = seeded(self.seed, self.name, stream)
        palette = torch.tensor([list(rgb) for rgb in self.colors.values()]) / 255
        return draw_scenes(count, len(self.classes), palette, self.style, generator), generator

    def _draw_clean(self) -> list[tuple[Scenes, torch.Generator]]:
        more = [self._drawn(self.more_clean, "clean/more")] if self.more_clean else []
        return [self._draw("clean"), *more]

    def _render(self, scenes: Scenes) -> Tensor:
        return render(scenes, draw_glyphs(tuple(self.classes.values())), self.image_size)

    def _ids(self, part: str) -> list[str]:
        count = self.sizes[part] + (self.more_clean if part == "clean" else 0)
        return [f"{self.name}/{self.seed}/{part}/{i}" for i in range(count)]

    def _describe(self, scenes: Scenes, generator: torch.Generator) -> list[str]:
        names, colors = list(self.classes), list(self.colors)
        facts: list[dict[str, Any]] = [
            {"name": names[label], "color": colors[ink], "background": colors[paper]}
            for label, ink, paper in zip(
                scenes.label.tolist(), scenes.ink.tolist(), scenes.paper.tolist(), strict=True
            )
        ]
        return self.captions(facts, generator)

    def _images(self, scenes: Scenes) -> Images:
        return Images(lambda index: self._render(scenes.take(index)), len(scenes))

    def _pairs(self) -> ImageTextPairs:
        scenes, generator = self._draw("pairs")
        captions = self._describe(scenes, generator)
        return ImageTextPairs(self._images(scenes), captions, self._ids("pairs"))

    def _labeled(self, part: str, scenes: Scenes) -> LabeledImages:
        return LabeledImages(self._images(scenes).once(), scenes.label, self._ids(part))

    def _clean(self) -> LabeledImages:
        return self._labeled("clean", Scenes.joined([scenes for scenes, _ in self._draw_clean()]))

    def _clean_captions(self) -> list[str]:
        return [text for drawn in self._draw_clean() for text in self._describe(*drawn)]

    def _retrieval(self) -> RetrievalSet:
        scenes, generator = self._draw("retrieval")
        rounds = [self._describe(scenes, generator) for _ in range(5)]
        captions = [list(five) for five in zip(*rounds, strict=True)]
        return RetrievalSet(self._images(scenes).once(), captions, self._ids("retrieval"))
