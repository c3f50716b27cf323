from __future__ import annotations

import io

import pytest
import torch
from PIL import Image, ImageStat

from evaluation import figures
from evaluation.intervals import rate
from invertune.defense import Vote


def samples(count: int, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_a_sheet_has_the_pictures_in_reading_order() -> None:
    sheet = figures.contact_sheet(samples(5, side=200), ["a long label " * 9] * 4 + ["a\nb"], 2)
    first, cell, gap = samples(5, side=200), 200, 16
    place = sheet.crop((gap, gap, gap + cell, gap + cell))
    assert place.tobytes() == figures.to_picture(first[0]).tobytes()
    assert sheet.width == 2 * cell + 3 * gap
    right = sheet.crop((2 * gap + cell, gap, 2 * gap + 2 * cell, gap + cell))
    assert right.tobytes() == figures.to_picture(first[1]).tobytes()


@pytest.mark.parametrize(("count", "labels", "columns"), [(0, 0, 2), (2, 1, 2), (2, 2, 0)])
def test_a_sheet_needs_a_label_for_each_picture(count: int, labels: int, columns: int) -> None:
    with pytest.raises(ValueError, match="a label for each picture"):
        figures.contact_sheet(samples(max(count, 1))[:count], ["x"] * labels, columns)


def test_the_gallery_amplifies_a_faint_change_to_what_can_be_seen() -> None:
    rows = figures.trigger_gallery(
        torch.full((3, 3, 8, 8), 100, dtype=torch.uint8),
        {"Faint": lambda images: images + 8 / 255, "Strong": lambda images: images * 0},
    )
    assert list(rows) == [
        "Clean", "Faint", "Faint: change × 8", "Strong", "Strong: change × 1",
    ]  # fmt: skip
    # 0.5 + 8 * 8/255 = 0.751 is 191; a change of -100/255 is 0.5 - 0.392, or 28.
    faint, strong = rows["Faint: change × 8"], rows["Strong: change × 1"]
    assert faint.getpixel((0, 0)) in [(191,) * 3, (192,) * 3]
    assert strong.getpixel((0, 0)) in [(27,) * 3, (28,) * 3]
    assert rows["Clean"].size == (3 * 8 + 2 * 3, 8)


def test_large_pictures_are_reduced_in_a_strip() -> None:
    assert figures.strip(samples(2, side=224)).size == (2 * 96 + 3, 96)


def test_a_palette_keeps_the_picture_and_few_colors() -> None:
    picture = figures.to_picture(samples(1, side=64)[0])
    data = figures.png(picture, 16)
    read = Image.open(io.BytesIO(data))
    assert read.size == (64, 64)
    assert len(read.convert("RGB").getcolors() or []) <= 16
    assert len(data) < len(figures.png(picture, None))


def test_every_diagram_is_drawn_and_legible_in_size() -> None:
    votes = [Vote(name, [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], 1.0) for name in ("patch", "noise")]
    rates = {"CA": {"clean": rate(9, 10), "backdoored": rate(8, 10), "purified": None}}
    drawn = [
        figures.class_frequency_bars(votes, ["a", "b", "a very long name of a class"], 1),
        figures.divergence_bars({f"block{i}": 0.1 * i for i in range(12)}, ["block3"]),
        figures.loss_curves({"one": [1.0], "two": [3.0, 2.0] * 40, "none": []}),
        figures.before_after_bars(rates),
    ]
    for picture in drawn:
        assert picture.width == 720
        assert 200 < picture.height < 1200
        assert max(ImageStat.Stat(picture).stddev) > 5


def test_the_running_mean_of_short_and_constant_curves() -> None:
    assert figures._running_mean([3.0, 1.0]) == [3.0, 1.0]
    assert figures._running_mean([2.0] * 100) == [2.0] * 100
    # 100 values are averaged over 4: the last four of 0, ..., 99.
    assert figures._running_mean([float(i) for i in range(100)])[-1] == 97.5
