from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from experiments.report import charts
from experiments.report.charts import Series

HOSTILE = '<script>alert("1")</script>&'


def boxes(drawing: str, color: str) -> list[tuple[float, float, float, float]]:
    """Return x, y, width and height of the rectangles of a color, but not the legend's."""
    found = [
        tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for box in ET.fromstring(drawing).iter("rect")
        if box.attrib["fill"] == color
    ]
    return [box for box in found if box[2:] != (10.0, 10.0)]  # type: ignore[misc]


def texts(drawing: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(drawing).iter("text")]


def drawings(name: str) -> list[str]:
    """Return one drawing of each kind with a name from outside in all places."""
    series = [Series(name, "#112233", [0.5, None], [(0.4, 0.6), None])]
    return [
        charts.bars(name, [name, "b"], series, top=1, unit=name),
        charts.ranked_bars(name, {name: [(name, (0.1, 0.9), name, True)]}, [(name, "#111111")] * 2),
        charts.curves(name, {name: [2.0, 1.0], "bad": [float("nan")] * 3}),
    ]


def test_every_drawing_is_well_formed_says_what_it_shows_and_escapes_it() -> None:
    for drawing in drawings(HOSTILE):
        root = ET.fromstring(drawing)  # fails where it does not nest
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == HOSTILE
        assert root.findtext("title") == HOSTILE
        assert "<script" not in drawing
        assert "http" not in drawing


def test_the_same_numbers_give_the_same_text() -> None:
    assert drawings("a") == drawings("a")


def test_a_bar_of_half_the_range_has_half_the_height() -> None:
    drawing = charts.bars("t", ["a", "b"], [Series("s", "#010203", [50, 100])], top=100)
    (_, top, _, half), (_, _, _, full) = boxes(drawing, "#010203")
    assert full == 176 - 34
    assert half == full / 2
    assert top + half == 176  # both stand on the same line


def test_a_value_that_is_not_there_has_no_bar() -> None:
    drawing = charts.bars("t", ["a", "b"], [Series("s", "#010203", [None, 1.0])], top=1)
    assert len(boxes(drawing, "#010203")) == 1


def test_overlaid_series_share_the_middle_of_a_group() -> None:
    one, two = Series("x", "#010203", [1.0, None]), Series("y", "#040506", [None, 1.0])
    drawing = charts.bars("t", ["a", "b"], [one, two], top=1, overlay=True)
    (x, _, width, _), (other, *_) = boxes(drawing, "#010203") + boxes(drawing, "#040506")
    assert x + width / 2 == pytest.approx(36 + 100, abs=0.2)  # two groups of 200 units each
    assert other - x == pytest.approx(200, abs=0.2)


def test_a_lying_bar_is_as_long_as_its_share() -> None:
    rows = [("key", (0.25, 1.0), "+75.0", True)]
    drawing = charts.ranked_bars("t", {"mask": rows}, [("clean", "#010203"), ("hit", "#040506")])
    ((_, _, quarter, _),) = boxes(drawing, "#010203")
    ((_, _, whole, _),) = boxes(drawing, "#040506")
    assert whole == 440 - 52 - 128
    assert quarter == whole / 4
    assert "+75.0" in texts(drawing)


def test_a_long_curve_keeps_its_extremes_in_few_points() -> None:
    steps = [1.0] * 1000
    steps[500] = 9.0
    drawing = charts.curves("t", {"loss": steps})
    line = re.search(r'<polyline points="([^"]*)"', drawing)
    assert line is not None
    assert len(line[1].split()) == 48
    assert "9" in texts(drawing)  # the upper end of the axis
    assert "1000 steps" in texts(drawing)
