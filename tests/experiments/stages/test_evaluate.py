from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("model", ["clean", "backdoored", "purified"])
def test_the_score_is_that_of_the_predictions(tiny_run: Any, model: str) -> None:
    stage = tiny_run.made[f"evaluate/{model}"]
    score = stage.json("score.json")["zero_shot"]
    with np.load(stage.file("predictions.npz")) as arrays:
        labels, clean, triggered = (arrays[name] for name in ("labels", "clean", "triggered"))
    assert labels.dtype == np.int32
    assert score["ca"]["value"] == pytest.approx((clean == labels).mean())
    target = tiny_run.parts.data.label_of("lemon")
    others = labels != target
    assert score["asr"]["value"] == pytest.approx((triggered[others] == target).mean())
    assert score["asr"]["n"] == others.sum()
