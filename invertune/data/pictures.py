"""Pictures of strangers: whatever a file holds becomes RGB pixels of one size, or one clear line.

What CLIP's own preprocessing does to an image before it is normalized (Radford et al., 2021; as
``open_clip.image_transform`` has it), and what photographs from the web need before: turned as
their EXIF data says, CMYK, greyscale, palettes and 16 bits made RGB, transparency laid on white, of
animations the first picture.
"""

from __future__ import annotations

import enum
import io
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from invertune.fields import check_choices, check_counts

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
}  # fmt: skip
TINY, HUGE = 32, 4096  # pixels of the shorter, and of the longer side
_MOST_PIXELS = 2**28  # 0.8 GB as RGB: what is larger is no photograph
_LONGEST_SHAPE = 16  # sides' ratio from which on the middle is cut out first

# What it is about is counted and said (`HUGE`), and beyond `_MOST_PIXELS` the picture is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BrokenPictureError(ValueError):
    """A file is no picture that can be used; the message says why."""


class Kind(enum.IntFlag):
    """What is special about a picture, one bit each."""

    CHECKED = 1
    BROKEN = 2
    GREY = 4
    CMYK = 8
    TURNED = 16
    ANIMATED = 32
    TRANSPARENT = 64
    SMALL = 128
    HUGE = 256


@dataclass(frozen=True)
class Fitting:
    """How a picture of any size becomes one of S by S pixels.

    Attributes:
        size: S.
        resize_mode: Its ``shortest`` side becomes S and the middle is cut out (CLIP's own), its
            ``longest``, with a black border, or both sides (``squash``).
        interpolation: ``bicubic`` (CLIP's own) or ``bilinear``.
    """

    size: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        check_counts(self, "size")
        check_choices(self, resize_mode=RESIZE_MODES, interpolation=tuple(INTERPOLATIONS))

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return an RGB picture of S by S pixels; one that has that size stays as it is."""
        size, how = self.size, INTERPOLATIONS[self.interpolation]
        if picture.size == (size, size):
            return picture
        if self.resize_mode == "squash":
            return picture.resize((size, size), how)
        if self.resize_mode == "longest":
            return ImageOps.pad(picture, (size, size), how, color=(0, 0, 0))
        picture = _without_ends(picture)
        width, height = picture.size
        # The rounding is torchvision's, so that a pixel here is a pixel there.
        scaled = (size, size * height // width) if width <= height else (
            size * width // height, size)  # fmt: skip
        left, top = (round((side - size) / 2) for side in scaled)
        return picture.resize(scaled, how).crop((left, top, left + size, top + size))


def read_picture(data: bytes, fitting: Fitting) -> tuple[Tensor, Kind]:
    """Return the pixels, (3, S, S) uint8, of an encoded picture, and what is special about it.

    Args:
        data: The bytes of a file in one of `FORMATS`; nothing in them is run.
        fitting: Says S.

    Raises:
        BrokenPictureError: If they are no such picture, or it ends early, or is too large.
    """
    try:
        picture, kind = _opened(data, fitting.size)
        pixels = np.array(fitting(picture))
    except BrokenPictureError:
        raise
    except UnidentifiedImageError as error:
        raise BrokenPictureError(f"no picture in one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise BrokenPictureError("more pixels than a photograph has") from error
    except MemoryError as error:
        raise BrokenPictureError("does not fit into memory") from error
    # Of whatever else a decoder stumbles over: OSError, struct.error, ZeroDivisionError, ...
    except Exception as error:
        raise BrokenPictureError(" ".join(f"{error}".split()) or type(error).__name__) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), kind


def _opened(data: bytes, size: int) -> tuple[Image.Image, Kind]:
    """Return the picture in RGB, upright."""
    picture = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise BrokenPictureError(f"{width} x {height} pixels are more than {_MOST_PIXELS}")
    kind = Kind.CHECKED
    if min(width, height) < TINY:
        kind |= Kind.SMALL
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        kind |= Kind.ANIMATED
    if max(width, height) > HUGE:
        kind |= Kind.HUGE
        # A decoder's own halving saves most of the memory.
        picture.draft("RGB", (2 * size, 2 * size))
    picture.load()
    turned = _upright(picture)
    if turned is not picture:
        kind |= Kind.TURNED
    return _rgb(turned, kind)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        if picture.getexif().get(0x0112, 1) in range(2, 9):
            return ImageOps.exif_transpose(picture)
    except Exception:  # what nobody can read turns nothing
        return picture
    return picture


def _rgb(picture: Image.Image, kind: Kind) -> tuple[Image.Image, Kind]:
    mode = picture.mode
    if mode in ("1", "L", "LA", "La") or mode.startswith("I"):
        kind |= Kind.GREY
    if mode.startswith("I"):  # 16 bits, in Pillow's one or other form
        grey: NDArray[np.float64] = np.asarray(picture).astype(np.float64)
        deep = mode != "I" or grey.max(initial=0) > 255
        picture = Image.fromarray((grey / 257 if deep else grey).clip(0, 255).round().astype("u1"))
    elif mode == "F":
        raise BrokenPictureError("pixels in floating point")
    elif mode in ("CMYK", "YCCK"):
        kind |= Kind.CMYK
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            kind |= Kind.TRANSPARENT
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB"), kind


def _without_ends(picture: Image.Image) -> Image.Image:
    """Return the middle of a picture that is far longer than wide: only that is looked at."""
    width, height = picture.size
    side = _LONGEST_SHAPE * min(width, height)
    if max(width, height) <= side:
        return picture
    left, top = max(0, width - side) // 2, max(0, height - side) // 2
    return picture.crop((left, top, left + min(width, side), top + min(height, side)))
