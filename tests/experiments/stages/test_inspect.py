from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.stages.inspect import arrows
from experiments.stages.stages import Stages


def test_the_inverted_trigger_is_compared_and_drawn(tiny_run: Any) -> None:
    stage = tiny_run.made["inspect"]
    assert {"asr", "mask_share", "embedding_cosine"} <= stage.json("inversion.json").keys()
    pictures = {path.stem: np.asarray(Image.open(path)) for path in
                stage.file("pictures").glob("*.png")}  # fmt: skip
    assert {f"{name}-{i}" for name in ("clean", "true", "inverted0") for i in range(4)} <= (
        pictures.keys()
    )
    images = tiny_run.parts.data.zero_shot.images[:4].permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(pictures[f"clean-{i}"], images[i]) for i in range(4))
    assert not np.array_equal(pictures["true-0"], images[0])


def test_without_an_inverted_trigger_there_is_no_comparison(
    resolve: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    stages = Stages(resolve("defense=none", f"runs_dir={tmp_path}"))
    inspected = stages.make()["inspect"]
    assert inspected.json("inversion.json") is None
    drawn = {path.stem.rsplit("-")[0] for path in inspected.file("pictures").glob("*.png")}
    assert drawn == {"clean", "true"}


def test_a_warp_is_drawn_as_arrows_to_where_pixels_come_from() -> None:
    flow = torch.zeros(2, 64, 64)
    flow[0] = 4.0  # all from four pixels to the right
    picture = np.asarray(arrows(flow))
    assert picture.shape == (384, 384, 3)
    red = (picture == np.array([0xC8, 0x43, 0x3F])).all(axis=2)
    ink = (picture == np.array([0x1F, 0x29, 0x33])).all(axis=2)
    # An arrow is 4 pixels long, six times as large: its head lies right of its middle.
    rows, columns = np.nonzero(red)
    first = columns[columns < 60]
    assert first.mean() == pytest.approx(6 * (3 + 0.5) + 24, abs=1.5)
    assert ink.any()
    still = np.asarray(arrows(torch.zeros(2, 64, 64)))
    assert len(set(np.nonzero((still != 255).any(axis=2))[1] // 36)) <= 11
    assert rows.size > 0
