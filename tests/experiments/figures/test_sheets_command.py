from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from experiments.commands.sheets import load_data, main

PARTS = {"pairs", "clean", "zero_shot", "retrieval"}


def test_one_sheet_per_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "sheets"), "--count", "3", "data.image_size=16"]
    assert main(arguments) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert {path.stem for path in paths} == PARTS
    assert all(Image.open(path).width == 3 * (192 + 16) + 16 for path in paths)
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {f"{p}.png" for p in PARTS}


def test_parts_are_small_unless_their_size_is_given() -> None:
    data = load_data("icons", ["data.sizes.clean=7", "data.image_size=16"], 4)
    assert len(data.labeled_clean) == 7
    assert len(data.zero_shot) == len(data.class_names)


def test_overrides_may_stand_before_and_after_options(tmp_path: Path) -> None:
    main([str(tmp_path), "data.seed=1", "--count", "1", "data.image_size=16", "--data", "icons"])
    assert (tmp_path / "pairs.png").is_file()


def test_no_pictures_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        main([str(tmp_path / "sheets"), "--count", "0"])
    assert not (tmp_path / "sheets").exists()
