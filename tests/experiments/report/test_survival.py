from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from experiments.figures.colors import ALARM, PLAIN
from experiments.report.survival import survival
from experiments.results.runs import Run

Made = Callable[..., dict[str, Any]]
FORM = {"form": "low_frequency", "budgets": [0.2, 0.1], "classes": [[0, 1, 2], [1, 0]],
        "success": [[0.5, 1.0, 0.25], [0.5, 0.25]], "pull": [[0, 0, 0], [0, 0]]}  # fmt: skip


def _drawn(
    result: Made, as_run: Callable[..., Run], leave: Callable[..., str], **found: Any
) -> str:
    made = {**result(), "config": {"data": {"classes": {"key": "", "<b>": "", "bell": ""}}}}
    evidence = {"identification": {"target_label": 1, **found}}
    run = as_run({**made, "stages": {"purify": leave("purify", "evidence.json", evidence)}})
    return survival("which survive", run)


def _lines(drawing: str, color: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]  # type: ignore[misc]
        for line in ET.fromstring(drawing).iter("polyline")
        if line.attrib["stroke"] == color
    ]


def test_the_named_class_stands_out(
    result: Made, as_run: Callable[..., Run], leave: Callable[..., str]
) -> None:
    drawing = _drawn(result, as_run, leave, survival=[FORM], again=[{**FORM, "form": "mask"}])
    found, best = _lines(drawing, ALARM), _lines(drawing, PLAIN)
    assert len(found) == len(best) == 2  # two panels
    (first, second), (other, last) = found[0], best[0]
    assert (first[1], second[1]) == (18.0, 51.0)  # 1 and 0.5 of an axis from 84 up to 18
    assert (other[1], last[1]) == (51.0, 67.5)
    assert first[0] == other[0] < second[0] == last[0]
    words = [text.text for text in ET.fromstring(drawing).iter("text")]
    assert {"low frequency, step 1", "mask, verified", "<b>", "key", "budget 20 % to 10 %"} <= set(
        words
    )
    assert "bell" not in words


def test_without_the_named_class_the_best_is_named(
    result: Made, as_run: Callable[..., Run], leave: Callable[..., str]
) -> None:
    alone = {"form": "warp", "budgets": [0.1], "classes": [[2, 7]], "success": [[0.5, 1.0]],
             "pull": [[0.0, 0.0]]}  # fmt: skip
    drawing = _drawn(result, as_run, leave, survival=[alone])
    assert _lines(drawing, ALARM) == []
    assert "class 7" in [text.text for text in ET.fromstring(drawing).iter("text")]
    empty = {"form": "warp", "budgets": [], "classes": [], "success": [], "pull": []}
    assert "no budget" in _drawn(result, as_run, leave, survival=[empty])
