from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import result_id
from experiments.files import digest
from experiments.results.result import read_result, validate, write_result

Made = Callable[..., dict[str, Any]]
Resolve = Callable[..., dict[str, Any]]


def test_a_result_comes_back_as_it_was_written(result: Made, tmp_path: Path) -> None:
    path = write_result(tmp_path / "run", result())
    read: dict[str, Any] = {**read_result(path)}
    assert read.pop("sha256") == digest(result())
    assert read == result()
    assert write_result(tmp_path / "run", read) == path
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("id", "xyz", "id: "),
        ("seed", "0", "seed: "),
        ("versions", {}, "versions: "),
        ("scores", {"clean": None}, "scores: "),
        ("seconds", {"pretrain": -1}, "seconds/pretrain: "),
    ],
)
def test_a_wrong_result_is_not_written(
    result: Made, tmp_path: Path, place: str, value: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        write_result(tmp_path / "run", {**result(), place: value})
    assert not (tmp_path / "run").exists()


def test_a_rate_outside_of_0_and_1_is_refused(result: Made) -> None:
    wrong = result()
    wrong["scores"]["purified"]["zero_shot"]["asr"]["value"] = 1.5
    with pytest.raises(ValueError, match="scores/purified"):
        validate(wrong)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:200], "no JSON, or truncated"),
        (lambda text: text.replace('"value": 0.75', '"value": 0.76'), "it was edited"),
        (lambda text: json.dumps({"schema": 2}), "schema version is 2, this program reads 1"),
        (lambda text: "[]", "schema version is None"),
    ],
)
def test_a_damaged_file_is_told_from_a_whole_one(
    result: Made, tmp_path: Path, damage: Callable[[str], str], said: str
) -> None:
    path = write_result(tmp_path / "run", result())
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=said):
        read_result(path)


def test_the_id_names_what_numbers_depend_on(resolve: Resolve) -> None:
    same = ("device=cpu", "threads=3", "runs_dir=x", "tracking=offline", "evaluation.batch_size=3")
    assert result_id(resolve(*same)) == result_id(resolve())
    assert result_id(resolve("attack.poison_rate=0.3")) != result_id(resolve())
