from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
