from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.tables.pairs import others
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


def _predict(
    folder: Path, labels: Sequence[int], clean: Sequence[int], triggered: Sequence[int]
) -> str:
    (folder / "stages").mkdir(exist_ok=True)
    stage = folder / "stages" / f"evaluate-{len(list((folder / 'stages').iterdir()))}"
    stage.mkdir()
    arrays = {"labels": labels, "clean": clean, "triggered": triggered}
    np.savez_compressed(
        stage / "predictions.npz",
        **{name: np.array(values, dtype=np.int32) for name, values in arrays.items()},
    )
    return f"stages/{stage.name}"


def test_p_pools_the_discordant_images_of_all_seeds(grid: Folder, tmp_path: Path) -> None:
    labels = [0, 0, 0, 2, 1]  # class 1 is the target

    def change(made: dict[str, Any]) -> None:
        if made["defense"]["name"] == "invertune":
            stage = _predict(tmp_path, labels, [0, 0, 0, 2, 1], [0, 0, 0, 1, -1])
        else:
            stage = _predict(tmp_path, labels, [0, 2, 2, 2, 1], [1, 1, 1, 0, -1])
        made["stages"] = {"evaluate/purified": stage}

    rows = list(csv.DictReader(io.StringIO(table(grid(change), "csv", experiment="T1"))))
    assert [row["p_ca"] for row in rows][1] == ""
    # Over two seeds InverTune alone is right 4 times to 0, hit 2 times to 6.
    assert float(rows[0]["p_ca"]) == pytest.approx(2 / 2**4)
    assert float(rows[2]["p_asr"]) == pytest.approx(2 * (1 + 8 + 28) / 2**8)


def test_other_test_images_are_not_compared(grid: Folder, tmp_path: Path, read: Read) -> None:
    def change(made: dict[str, Any]) -> None:
        labels = [0, 1] if made["defense"]["name"] == "invertune" else [1, 0]
        stage = _predict(tmp_path, labels, labels, [-1 if label else 0 for label in labels])
        made["stages"] = {"evaluate/purified": stage}

    rows = read(table(grid(change), "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["-", "-", "-"]


def test_rows_are_paired_that_differ_in_the_defense_alone() -> None:
    one, two = ({"attack": "a", "defense": name, "steps": "5"} for name in ("x", "y"))
    assert others(one) == others(two) == ("a", "5")
