from __future__ import annotations

import io
import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from experiments.figures.plots import comparison, each_line, png, sensitivity, svg
from experiments.figures.study import Study

Make = Callable[..., Study]


def picture(figure: Figure) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def texts(figure: Figure) -> list[str]:
    root = ET.fromstring(svg(figure))
    return ["".join(element.itertext()).strip() for element in root.iter() if "text" in element.tag]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_further_value_is_a_row_of_panels(study: Make, count: int) -> None:
    figure = sensitivity(study(*("x.a", "x.b", "x.c")[:count]))
    titles = [axes.get_title("left") for axes in figure.axes]
    rows = ["", " (c=2)", " (c=3)"] if count == 3 else [""]
    assert len(titles) == 2 * len(rows)
    assert titles[-2:] == [f"{measure} after, %{rows[-1]}" for measure in ("CA", "ASR")]
    pixels = picture(figure)
    assert pixels.shape[1] == 1440
    assert (pixels.shape[0] > 800) == (count == 3)


def test_lines_go_through_their_points_with_the_default_marked(study: Make) -> None:
    left, right = sensitivity(study("x.steps", asr=0.25)).axes
    curve, default = left.lines
    assert curve.get_ydata() == pytest.approx([90, 90, 90])
    assert curve.get_xdata() == pytest.approx([0, 0.5, 1])
    assert list(default.get_xdata()) == [0.5, 0.5]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "2", "3"]
    (band,) = left.collections  # ASR has no interval
    ends = band.get_paths()[0].vertices[:, 1]
    assert (min(ends), max(ends)) == (80, 95)
    assert not right.collections
    assert right.lines[0].get_ydata() == pytest.approx([25] * 3)


def test_the_axis_ends_near_0_and_100_percent(study: Make) -> None:
    for asr, ends in ((1.0, (97.7, 100.3)), (0.0, (-0.3, 2.3)), (0.5, (48.7, 51.3))):
        _, right = sensitivity(study("x.steps", asr=asr)).axes
        assert right.get_ylim() == pytest.approx(ends)
    whole = study("x.steps", values=2, asr=0.0)
    points = (whole.points[0], study("x.steps", asr=1.0).points[1])
    whole = Study("s", "", (), whole.keys, points, whole.defaults)
    assert sensitivity(whole).axes[1].get_ylim() == pytest.approx((-1, 101))


def test_a_heat_map_has_its_shares_and_frames_the_default(study: Make) -> None:
    made = study("x.a", "x.b")
    whole = texts(sensitivity(made))
    assert (whole.count("90.0"), whole.count("80.0–95.0"), whole.count("10.0")) == (9, 9, 9)
    frames = [patch for axes in sensitivity(made).axes for patch in axes.patches
              if not patch.get_fill()]  # fmt: skip
    assert [frame.get_xy() for frame in frames] == [(1 - 0.47, 1 - 0.47)] * 2


def test_a_cell_that_was_not_measured_is_a_gap(study: Make) -> None:
    made = study("x.a", "x.b")
    gap = Study(made.name, "", (), made.keys, made.points[1:], made.defaults)
    assert texts(sensitivity(gap)).count("–") == 2  # in CA and in ASR
    assert texts(sensitivity(made)).count("–") == 0


def test_the_title_may_stand_outside(study: Make) -> None:
    made = study("x.a")
    assert made.title in texts(sensitivity(made))
    assert made.title not in texts(sensitivity(made, titled=False))


def test_a_figure_gives_the_same_files_every_time(study: Make) -> None:
    first, second = (sensitivity(study("x.a", "x.b")) for _ in range(2))
    assert svg(first) == svg(second)
    assert png(first) == png(second)
    assert len(svg(first)) < 40_000


def test_an_svg_has_text_and_no_date(study: Make) -> None:
    drawing = svg(sensitivity(study("x.a")))
    assert "<text" in drawing
    assert not re.search(r"20\d\d-\d\d-\d\d", drawing)


def test_every_line_of_a_comparison_has_a_look_of_its_own() -> None:
    assert len(set(itertools.islice(each_line(), 30))) == 30


def test_a_comparison_draws_every_study(study: Make) -> None:
    def of(attack: str, asr: float) -> Study:
        made = study("x.a", asr=asr)
        return Study("s", "", (f"attack={attack}",), made.keys, made.points, made.defaults)

    left, right = comparison([of("badnet", 0.1), of("sig", 0.4)]).axes
    heights = [line.get_ydata()[0] for line in right.lines]
    assert heights == pytest.approx([10, 40])
    assert len(left.lines) == 2
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["badnet", "sig"]
