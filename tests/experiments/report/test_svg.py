from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from experiments.report import svg


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


def test_what_is_no_range_has_one_tick() -> None:
    assert svg.ticks(0, math.inf) == [0]


def test_a_drawing_says_its_title_and_escapes_it() -> None:
    title = 'a <b> & "c"'
    root = ET.fromstring(svg.drawing(title, 99.6, [svg.text(1, 2, title, 10)]))
    assert root.attrib["aria-label"] == title
    assert (root.findtext("title"), root.findtext("text")) == (title, title)
    assert root.attrib["viewBox"] == f"0 0 {svg.WIDTH} 100"


def test_a_box_is_never_inside_out() -> None:
    box = ET.fromstring(svg.box(1, 2, -3, 4, "#000000"))
    assert (box.attrib["width"], box.attrib["height"]) == ("0.0", "4.0")


@pytest.mark.parametrize(("points", "drawn"), [(2, False), (4, True)])
def test_an_area_needs_four_points(points: int, drawn: bool) -> None:
    assert bool(svg.area([(i, i) for i in range(points)], "#000000", 0.5)) == drawn


def test_optional_attributes_are_there_where_they_are_asked_for() -> None:
    assert "stroke-dasharray" not in svg.line(0, 0, 1, 1, "#000000")
    assert 'stroke-dasharray="4 3"' in svg.line(0, 0, 1, 1, "#000000", "4 3")
    assert "anchor" not in svg.text(0, 0, "x", 9)
    assert 'text-anchor="end"' in svg.text(0, 0, "x", 9, "end")


@pytest.mark.parametrize(("name", "shown"), [("lemon", "lemon"), ("lemonade", "lemo…")])
def test_a_long_name_is_cut_off(name: str, shown: str) -> None:
    assert svg.short(name, 5) == shown
