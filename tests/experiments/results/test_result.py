from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import result_id
from experiments.files import digest
from experiments.results.result import load_results, validate, write_result

Made = Callable[..., dict[str, Any]]
Resolve = Callable[..., dict[str, Any]]


def test_a_result_comes_back_as_it_was_written(result: Made, tmp_path: Path) -> None:
    path = write_result(tmp_path / "run", result())
    (read,) = load_results(tmp_path)
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


def test_damaged_files_are_named_and_left_out(
    result: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_result(tmp_path / "good", result())
    whole = write_result(tmp_path / "short", result(1)).read_text()
    (tmp_path / "short" / "result.json").write_text(whole[:200])
    edited = write_result(tmp_path / "edited", result(2))
    edited.write_text(edited.read_text().replace('"value": 0.75', '"value": 0.76'))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text(json.dumps({"schema": 2}))
    with caplog.at_level(logging.WARNING):
        assert [read["id"] for read in load_results(tmp_path)] == [result()["id"]]
    named = [record.message for record in caplog.records]
    assert len(named) == 3
    assert "edited/result.json is left out: it was edited" in named[0]
    assert "other/result.json is left out: its schema version is 2" in named[1]
    assert "short/result.json is left out: it is no JSON, or truncated" in named[2]


def test_the_id_names_what_numbers_depend_on(resolve: Resolve) -> None:
    same = ("device=cpu", "threads=3", "runs_dir=x", "tracking=offline", "evaluation.batch_size=3")
    assert result_id(resolve(*same)) == result_id(resolve())
    assert result_id(resolve("attack.poison_rate=0.3")) != result_id(resolve())
