from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.results.result import write_result
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
    for test in ("p CA", "p ASR"):
        assert [row[test] for row in rows] == ["other images", "-", "other images"]


def _set(way: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        *parents, name = way.split("/")
        part = made
        for parent in parents:
            part = part.setdefault(parent, {})
        part[name] = value

    return change


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        ("attack/target_label", "cat", "other target"),
        ("config/attack/target_label", "cat", "other target"),
        ("config/attack/poison_rate", 0.5, "other poison"),
        ("config/attack/trigger/size", 3, "other poison"),
        ("config/data/style", {"turn": 90}, "other data"),
        ("config/data/classes", {"cat": "c", "apple": "a"}, "other data"),
        ("config/model/width", 8, "other model"),
        ("config/evaluation", {"templates": 1}, "other evaluation"),
        ("stages/implant", "stages/implant-b", "other implant"),
        ("stages/evaluate/purified", "stages/nowhere", "no predictions"),
        ("config/defense/anything", 1, "1.000"),
        ("config/attack/_stages_", {"trigger": ["size"]}, "1.000"),
        ("config/device", "cuda", "1.000"),
    ],
)
def test_a_cell_says_why_there_is_no_test(
    grid: Folder, tmp_path: Path, read: Read, way: str, value: object, said: str
) -> None:
    def change(made: dict[str, Any]) -> None:
        stage = _predict(tmp_path, [0, 0, 1], [0, 0, 1], [0, 0, -1])
        made["stages"] = {"evaluate/purified": stage, "implant": "stages/implant-a"}
        made["config"]["data"]["classes"] = {"apple": "a", "cat": "c"}
        if made["defense"]["name"] == "other":
            if way.startswith("stages/"):
                made["stages"][way.removeprefix("stages/")] = value
            else:
                _set(way, value)(made)

    rows = read(table(grid(change), "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["1.000", "-", said]
    assert [row["p ASR"] for row in rows] == ["1.000", "-", said]


def test_seeds_that_only_one_has_are_said(grid: Folder, tmp_path: Path, read: Read) -> None:
    def change(made: dict[str, Any]) -> None:
        stage = _predict(tmp_path, [0, 0, 1], [0, 0, 1], [0, 0, -1])
        made["stages"] = {"evaluate/purified": stage}

    rows = read(table(grid(change, left=1), "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["1.000", "-", "1.000 1 of 2 seeds"]


def test_without_a_trigger_there_is_no_test_of_asr(
    grid: Folder, tmp_path: Path, read: Read
) -> None:
    def change(made: dict[str, Any]) -> None:
        stage = _predict(tmp_path, [0, 1], [0, 1], [-1, -1])
        made["stages"] = {"evaluate/purified": stage}

    rows = read(table(grid(change), "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["1.000", "-", "1.000"]
    assert [row["p ASR"] for row in rows] == ["no trigger", "-", "no trigger"]


def test_one_side_that_has_not_run_is_said(grid: Folder, tmp_path: Path, read: Read) -> None:
    folder = grid()
    for path in folder.glob("*-invertune-*/result.json"):
        path.unlink()
    rows = read(table(folder, "md", experiment="T1"))
    assert [row["p CA"] for row in rows] == ["no run of invertune", "-", "no run of invertune"]


def test_rows_are_paired_that_differ_in_the_defense_alone() -> None:
    one, two = ({"attack": "a", "defense": name, "steps": "5"} for name in ("x", "y"))
    assert others(one) == others(two) == ("a", "5")


@pytest.mark.parametrize("first", ["equal", "paper"])
def test_a_defense_with_more_clean_images_is_compared_with_invertune_on_its_own(
    result: Made, config: Made, plan: Folder, tmp_path: Path, read: Read, first: str
) -> None:
    labels = [0, 0, 0, 2, 1]  # class 1 is the target
    jobs = []
    for i, (defense, budget) in enumerate([("invertune", first), ("other", "paper")]):
        # InverTune alone is right once, and hit twice less often.
        stage = _predict(tmp_path, labels, [0, 2 * i, 0, 2, 1], [0, i, 0, i, -1])
        own = {**config(0), "budget": {"name": budget}}
        own["data"] = {"seed": 0, **({"more_clean": 3120} if budget == "paper" else {})}
        made = {**result(0, defense), "id": f"{i:016x}", "config": own}
        made["stages"] = {"evaluate/purified": stage}
        write_result(tmp_path / f"r{i}", made)
        words = [f"defense={defense}", *(["budget=paper"] if budget == "paper" else [])]
        stages = {"evaluate/purified": Path(stage).name}
        jobs.append({"overrides": words, "run": f"r{i}", "id": made["id"], "stages": stages})
    plan("t1_defenses", "T1", jobs)
    rows = read(table(tmp_path, "md", experiment="T1"))
    found = [(row["budget"], row["p CA"], row["p ASR"]) for row in rows]
    assert found == [(first, "-", "-"), ("paper", "1.000", "0.500")]
