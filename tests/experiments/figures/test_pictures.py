from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.figures import pictures as gallery


def flat(value: int, side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), (value, value, value))


def opened(picture: gallery.Picture) -> Image.Image:
    data = picture.source.removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def test_a_faint_change_is_amplified_to_what_can_be_seen(tmp_path: Path) -> None:
    for i in range(3):
        flat(100).save(tmp_path / f"clean-{i}.png")
        flat(108).save(tmp_path / f"true-{i}.png")
        flat(0).save(tmp_path / f"inverted2-{i}.png")
    rows = gallery.trigger_rows(tmp_path, best=2, count=3)
    assert [row.title for row in rows] == [
        "Clean", "True trigger", "its change × 8", "Inverted trigger", "its change × 1",
    ]  # fmt: skip
    # 128 + 8 * 8 = 192, and 128 - 100 = 28.
    assert opened(rows[2]).getpixel((0, 0)) == (192, 192, 192)
    assert opened(rows[4]).getpixel((0, 0)) == (28, 28, 28)
    assert opened(rows[0]).size == (rows[0].width, rows[0].height) == (3 * 8 + 2 * 3, 8)
    assert all(row.text for row in rows)


def test_a_warp_is_shown_as_arrows_too(tmp_path: Path) -> None:
    flat(100).save(tmp_path / "clean-0.png")
    flat(90).save(tmp_path / "inverted1-0.png")
    flat(7).save(tmp_path / "flow1-0.png")
    rows = gallery.trigger_rows(tmp_path, best=1, count=4)
    assert [row.title for row in rows][-1] == "where pixels come from"
    assert opened(rows[-1]).getpixel((0, 0)) == (7, 7, 7)
    assert "where pixels" not in "".join(
        row.title for row in gallery.trigger_rows(tmp_path, best=0, count=4)
    )
    (tmp_path / "flow1-0.png").write_text("no picture")
    assert len(gallery.trigger_rows(tmp_path, best=1, count=4)) == len(rows) - 1


def test_one_trigger_alone_is_shown(tmp_path: Path) -> None:
    flat(100).save(tmp_path / "clean-0.png")
    flat(90).save(tmp_path / "inverted0-0.png")
    titles = [row.title for row in gallery.trigger_rows(tmp_path, best=0, count=4)]
    assert titles == ["Clean", "Inverted trigger", "its change × 8"]


@pytest.mark.parametrize("damage", ["none", "cut", "other size", "clean alone"])
def test_without_something_to_compare_there_is_no_row(tmp_path: Path, damage: str) -> None:
    folder = tmp_path if damage != "none" else tmp_path / "missing"
    if damage != "none":
        flat(100).save(folder / "clean-0.png")
    if damage == "cut":
        (folder / "true-0.png").write_bytes(b"\x89PNG")
    if damage == "other size":
        flat(1, side=4).save(folder / "true-0.png")
    assert gallery.trigger_rows(folder, best=0, count=1) == []


def test_large_pictures_are_reduced_in_a_strip() -> None:
    assert gallery.strip(np.zeros((2, 224, 224, 3), np.uint8)).size == (2 * 96 + 3, 96)


def test_a_palette_keeps_the_picture_and_few_colors() -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    data = gallery.png(Image.fromarray(noise), 16)
    read = Image.open(io.BytesIO(data))
    assert read.size == (64, 64)
    assert len(read.convert("RGB").getcolors() or []) <= 16
    assert len(data) < len(gallery.png(Image.fromarray(noise), None))


def test_the_trigger_with_the_highest_asr_is_shown() -> None:
    measured = [(0.5, 0.1), (0.9, 0.4), (0.9, 0.2)]
    rows = [{"asr": asr, "mask_share": share} for asr, share in measured]
    assert gallery.best_trigger({"inversion": {"per_trigger": rows}}) == 2  # the smaller one
    assert gallery.best_trigger({"inversion": None}) == 0
