from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from experiments.report import charts, share_charts, svg
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
        share_charts.lines(name, name, [1, 2], series * 2, default=1),
        share_charts.heat_map(name, (name, name), ([1], [1, 2]), {(1, 1): (0.5, None)}),
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


def test_a_scale_is_straight_and_ends_at_its_ends() -> None:
    scale = svg.Scale(0, 10, 100, 0)
    assert [scale(value) for value in (-1, 0, 2.5, 10, 11)] == [100, 100, 75, 0, 0]
    assert svg.Scale(3, 3, 0, 10)(3) == 5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.93, 1.0, [0.94, 0.96, 0.98, 1.0]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == expected


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], [0, 0.5, 1]),
        ([16, 64, 256], [0, 0.5, 1]),  # a factor of 16: logarithmic
        ([0, 1, 10], [0, 0.5, 1]),  # 0 has no logarithm: evenly
        ([7], [0.5]),
    ],
)
def test_a_parameter_is_spread_by_its_range(values: list[float], expected: list[float]) -> None:
    assert share_charts.spread(values) == pytest.approx(expected)


def test_lines_go_through_their_points_with_the_default_marked() -> None:
    series = Series("CA", "#010203", [0.9, 0.8], [(0.85, 0.95), (0.7, 0.9)])
    drawing = share_charts.lines("t", "steps", [20, 10], [series], default=10)
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"]))
               for c in ET.fromstring(drawing).iter("circle")]  # fmt: skip
    (left, low), (right, high) = circles  # by value: 10, then 20
    assert (left, right) == (44, 420)
    # The axis goes from 70 - 2 to 95 + 2 points over 146 units.
    assert low == pytest.approx(190 - 146 * 12 / 29, abs=0.1)
    assert high == pytest.approx(190 - 146 * 22 / 29, abs=0.1)
    marks = [line.attrib["x1"] for line in ET.fromstring(drawing).iter("line")
             if "stroke-dasharray" in line.attrib]  # fmt: skip
    assert marks == ["44.0"]
    assert "default" in texts(drawing)
    assert "default" not in texts(share_charts.lines("t", "steps", [20, 10], [series], default=15))


def test_a_heat_map_has_a_cell_per_value_and_frames_the_default() -> None:
    cells: dict[tuple[float, float], tuple[float, charts.Bounds]] = {
        (1, 0.1): (0.0, (0.0, 0.1)), (1, 0.2): (0.5, None), (2, 0.1): (1.0, None),
    }  # fmt: skip
    drawing = share_charts.heat_map(
        "t", ("rows", "columns"), ([2, 1], [0.1, 0.2]), cells, color="#000000", default=(2, 0.1)
    )
    assert {"0.0", "0.0–10.0", "50.0", "100.0", "–"} <= set(texts(drawing))
    framed = [box for box in ET.fromstring(drawing).iter("rect") if "class" in box.attrib]
    assert [(box.attrib["x"], box.attrib["y"]) for box in framed] == [("71.0", "89.0")]
    weakest, middle, strongest = (f'fill="{share_charts.shade("#000000", strength)}"'
                                  for strength in (0.06, 0.48, 0.9))  # fmt: skip
    assert weakest in drawing
    assert middle in drawing
    assert strongest in drawing


def test_a_small_difference_is_not_blown_up_to_full_color() -> None:
    assert share_charts.color_range([0.995, 0.996]) == pytest.approx((0.98, 1.0), abs=0.006)
    assert share_charts.color_range([0.1, 0.9]) == (0.1, 0.9)


def test_a_shade_is_a_mix_with_white() -> None:
    assert share_charts.shade("#0080ff", 0) == "#ffffff"
    assert share_charts.shade("#0080ff", 1) == "#0080ff"
    assert share_charts.shade("#000000", 0.2) == "#cccccc"


@pytest.mark.parametrize(
    ("value", "text"), [(240.0, "240"), (0.15, "0.15"), (2e-5, "2e-05"), (0.0, "0")]
)
def test_values_are_written_short(value: float, text: str) -> None:
    assert share_charts.number(value) == text
