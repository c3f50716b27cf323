from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.tables.parquet import to_frame
from experiments.tables.table import table

Made = Callable[..., dict[str, Any]]
Folder = Callable[..., Path]
Read = Callable[[str], list[dict[str, str]]]


def test_parquet_has_every_value_of_every_run(grid: Folder) -> None:
    def change(made: dict[str, Any]) -> None:
        made["config"]["data"]["classes"] = {"lemon": "a", "key": "b"}
        made["config"]["defense"]["clip"] = 1 if made["seed"] else "off"
        made["config"]["defense"]["large"] = 2**70

    folder = grid(change)
    path = table(folder, "parquet")
    assert path == str(folder / "results.parquet")
    rows = pd.read_parquet(path)
    assert len(rows) == 6
    first = rows[rows["run"] == "rn50_mini-badnet-none-seed0-00000000"].iloc[0]
    assert first["scores.purified.zero_shot.asr.value"] == 0.9
    assert first["sweeps"] == "t1_classification-00000000"
    assert first["config.defense.tune.steps"] == 240
    assert json.loads(first["config.data.classes"]) == {"lemon": "a", "key": "b"}
    assert set(rows["config.defense.clip"]) == {"off", "1"}
    assert rows["seed"].dtype == "Int64"
    assert not [name for name in folder.iterdir() if name.name.startswith(".")]


def test_a_run_of_no_sweep_is_a_row_by_the_name_of_its_folder(
    result: Made, as_run: Callable[..., Any]
) -> None:
    frame = to_frame([as_run(result(), "renamed")], [])
    assert frame["run"].tolist() == ["renamed"]
    assert frame["sweeps"].tolist() == [""]
