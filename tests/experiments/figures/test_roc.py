from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.figures.plots import png, svg
from experiments.figures.roc import roc_figure, title_of
from experiments.results.alarms import Method, methods
from experiments.results.runs import Run

MODELS = ((0, True, 1e-8, 0.9), (1, True, 0.0, 0.4), (2, True, 0.5, 0.7), (3, False, 0.9, 0.6),
          (4, False, 0.8, 0.1))  # fmt: skip


@pytest.fixture
def judged(
    suspected: Callable[..., dict[str, Any]], as_run: Callable[..., Run]
) -> Callable[..., list[Method]]:
    def made(models: Sequence[tuple[Any, ...]] = MODELS) -> list[Method]:
        return methods([as_run(suspected(*model)) for model in models])

    return made


def _texts(figure: Figure) -> str:
    root = ET.fromstring(svg(figure))
    found = ("".join(element.itertext()) for element in root.iter() if "text" in element.tag)
    return "\n".join(found)


def test_the_curve_goes_through_its_points_and_is_marked_at_its_threshold(
    judged: Callable[..., list[Method]],
) -> None:
    panel = roc_figure(judged()).axes[0]
    lines = {str(line.get_label()): line for line in panel.lines}
    curve = np.asarray(lines["decree"].get_xydata())
    points = [(0, 0), (0, 100 / 3), (0, 200 / 3), (50, 200 / 3), (50, 100), (100, 100)]
    assert curve == pytest.approx(np.array(points))
    drawn = [np.asarray(line.get_xydata()) for line in panel.lines]
    marks = np.concatenate([line for line in drawn if len(line) == 1])
    assert marks == pytest.approx(np.array([(0, 200 / 3), (50, 200 / 3)]))


def test_every_score_stands_in_its_strip(judged: Callable[..., list[Method]]) -> None:
    verdict, step, decree = roc_figure(judged()).axes[1:]
    dots = {height: line.get_xdata() for line in decree.lines[:2]
            for height in set(line.get_ydata())}  # fmt: skip
    assert sorted(dots[1]) == [0.4, 0.7, 0.9]
    assert sorted(dots[0]) == [0.1, 0.6]
    assert decree.lines[2].get_xdata() == pytest.approx([0.5, 0.5])
    assert len(step.lines) == 2  # no threshold
    # An infinite score stands at the end of those that are not.
    assert max(verdict.lines[1].get_xdata()) == pytest.approx(8)


def test_it_says_what_each_method_comes_to(judged: Callable[..., list[Method]]) -> None:
    shown = _texts(roc_figure(judged()))
    assert "3 backdoored and 2 clean models" in shown
    assert "decree: AUROC 83.3 % [" in shown
    assert "found 66.7 % [20.8, 93.9], false alarms 50.0 % [9.5, 90.5]" in shown
    assert "3 backdoored" not in _texts(roc_figure(judged(), titled=False))


def test_methods_of_other_models_are_not_counted_together(
    judged: Callable[..., list[Method]],
) -> None:
    mixed = judged([*MODELS, (5, False, 0.7, None)])
    assert "clean models" not in title_of(mixed)
    assert "2 clean" in title_of(mixed[2:])


def test_a_dozen_of_methods_fit(judged: Callable[..., list[Method]]) -> None:
    image = Image.open(io.BytesIO(png(roc_figure(judged() * 4))))
    assert image.height > image.width
    assert np.asarray(image).std() > 0


def test_one_kind_of_models_is_no_figure(judged: Callable[..., list[Method]]) -> None:
    with pytest.raises(ValueError, match="has no models of both kinds"):
        roc_figure(judged(MODELS[:3]))
