"""Pictures of strangers become pixels of one size, as CLIP's own preprocessing makes them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from invertune.data.pictures import BrokenPictureError, Fitting, Kind, read_picture

RED = (200, 30, 40)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def color(data: bytes, size: int = 8) -> tuple[list[int], Kind]:
    """Return the mean color of what is read, and its kind."""
    pixels, kind = read_picture(data, Fitting(size))
    return pixels.float().mean(dim=(1, 2)).round().int().tolist(), kind


@pytest.mark.parametrize(
    "size", [(500, 375), (333, 501), (225, 224), (30, 40), (224, 224), (20, 300)]
)
def test_pixels_are_those_of_clips_own_preprocessing(size: tuple[int, int]) -> None:
    picture = noise(*size)
    expected = picture
    for step in image_transform(224, is_train=False).transforms[:2]:
        expected = step(expected)
    pixels, _ = read_picture(encoded(picture), Fitting(224))
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    picture = noise(16, 16)
    pixels, _ = read_picture(encoded(picture), Fitting(16, "squash"))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(picture))


def test_other_ways_to_fit() -> None:
    wide = Image.new("RGB", (40, 20), "white")
    longest, _ = read_picture(encoded(wide), Fitting(20, "longest", "bilinear"))
    assert longest[0, 0].max() == 0  # a border above
    assert longest[0, 10].min() == 255
    squash, _ = read_picture(encoded(wide), Fitting(20, "squash"))
    assert squash.min() == 255


def test_a_picture_far_longer_than_wide_takes_no_memory() -> None:
    strip = Image.new("RGB", (20_000, 1), RED)
    found, kind = color(encoded(strip), 64)
    assert found == list(RED)
    assert kind & Kind.SMALL


def test_kinds_of_pixels() -> None:
    grey, kind = color(encoded(Image.new("L", (50, 50), 90)))
    assert grey == [90, 90, 90]
    assert kind == Kind.CHECKED | Kind.GREY
    sixteen = Image.fromarray(np.full((50, 50), 257 * 90, dtype=np.uint16))
    assert color(encoded(sixteen))[0] == [90, 90, 90]
    cmyk, kind = color(encoded(Image.new("CMYK", (50, 50), (0, 255, 255, 0)), "JPEG", quality=95))
    assert cmyk[0] > 240
    assert max(cmyk[1:]) < 15
    assert kind & Kind.CMYK
    palette = Image.new("RGB", (50, 50), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert color(encoded(palette))[0] == list(RED)


def test_what_is_transparent_is_white() -> None:
    half = Image.new("RGBA", (50, 50), (*RED, 0))
    found, kind = color(encoded(half))
    assert found == [255, 255, 255]
    assert kind & Kind.TRANSPARENT
    _, opaque = color(encoded(Image.new("RGBA", (50, 50), (*RED, 255))))
    assert not opaque & Kind.TRANSPARENT


def test_exif_turns_the_picture() -> None:
    picture = Image.new("RGB", (48, 48), "black")
    picture.paste(Image.new("RGB", (48, 24), "white"), (0, 0))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    pixels, kind = read_picture(encoded(picture, "JPEG", exif=exif, quality=95), Fitting(48))
    assert kind & Kind.TURNED
    assert pixels[0, :, 36:].min() > 200  # the right half
    assert pixels[0, :, :12].max() < 50


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (40, 40), shade) for shade in (RED, "blue")]
    found, kind = color(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert kind & Kind.ANIMATED
    assert found == list(RED)


def _bomb() -> bytes:
    """A PNG that says it has 10^10 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data))  # fmt: skip

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no picture"),
        (b"<svg/>", "no picture"),
        (encoded(noise(60, 60), "JPEG")[:900], "truncated"),
        (encoded(noise(60, 60))[:5000], "truncated"),
        (_bomb(), "pixels"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "floating point"),
    ],
)
def test_what_is_no_picture_is_said(data: bytes, why: str) -> None:
    with pytest.raises(BrokenPictureError, match=why):
        read_picture(data, Fitting(16))


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="resize_mode is one of shortest, longest, squash"):
        Fitting(16, "crop")
    with pytest.raises(ValueError, match="size is an integer"):
        Fitting(0)
