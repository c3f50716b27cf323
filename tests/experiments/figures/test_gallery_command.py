from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.commands.gallery import main
from experiments.results.result import write_result


def _leave(runs_dir: Path, result: dict[str, Any], side: int = 8) -> None:
    """Write a result, and two pictures of each kind."""
    folder = runs_dir / "stages" / "inspect" / "pictures"
    folder.mkdir(parents=True)
    for name, value in (("clean", 40), ("true", 90)):
        for i in range(2):
            image = Image.fromarray(np.full((side, side, 3), value, np.uint8))
            image.save(folder / f"{name}-{i}.png")
    write_result(runs_dir / "run", {**result, "stages": {"inspect": "stages/inspect"}})


def test_the_picture_goes_among_the_runs_or_where_it_is_told(
    result: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _leave(tmp_path, result())
    assert main([str(tmp_path), "--images", "1"]) == 0
    wanted = tmp_path / "pictures" / "mine.png"
    assert main([str(tmp_path), "--output", str(wanted)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "triggers.png"), str(wanted)]
    assert Image.open(wanted).width > Image.open(tmp_path / "triggers.png").width  # two images


def test_runs_of_another_model_are_left_out(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    _leave(tmp_path, result())
    with pytest.raises(ValueError, match="has left pictures of a trigger"):
        main([str(tmp_path), "--model", "rn101_mini"])
    assert not (tmp_path / "triggers.png").exists()
