"""Every reader of a folder of runs, where files of strangers stand beside a good run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.files import digest

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]
HIDDEN = "\x1b[2J\r\nevery rate is the same\u202e"


def _sealed(made: dict[str, Any]) -> bytes:
    return json.dumps({**made, "sha256": digest(made)}).encode()


def _with(made: dict[str, Any], way: str, value: object) -> bytes:
    made = json.loads(json.dumps(made))
    *parents, key = way.split("/")
    part = made
    for parent in parents:
        part = part[parent]
    part[key] = value
    return _sealed(made)


@pytest.fixture
def hostile(leave: Leave, plan: Callable[..., None], tmp_path: Path) -> list[str]:
    """Fill a folder of runs with one good run and bad ones; return the names of the bad."""
    runs, made = tmp_path / "runs", leave("good")
    plan("F4", {"defense.tune.steps": ["1", "2"]}, [made["id"], "f" * 8])
    bad = {
        "truncated": b'{"schema": 1, "id":',
        "deep": b"[" * 10**5,
        "bytes": b"\xff\xfe\x00",
        "list": b"[]",
        "version": _with(made, "schema", 2),
        "half": _with(made, "config", {}).replace(b'"config": {}', b'"config": {"a": "\\ud800"}'),
        "share": _with(made, "scores/purified/zero_shot/asr/value", 7),
        "order": _with(made, "scores/purified/zero_shot/asr/low", 0.9),
        "huge": _with(made, "seconds/implant", 10**400),
        "name": _with(made, "model/name", HIDDEN),
        "ways": _with(made, "stages/purify", "stages/../../outside"),
        "forms": _with(made, "inversion", {"asr": "x", "mask_share": 1, "embedding_cosine": 1}),
    }
    for name, content in bad.items():
        (runs / name).mkdir()
        (runs / name / "result.json").write_bytes(content)
    (runs / "folder").mkdir()
    (runs / "folder" / "result.json").mkdir()
    (runs / "good" / "tracking.json").write_text('{"mode": "offline", "run": "../../x"}')
    (runs / "share" / "tracking.json").write_text("[" * 10**5)
    (runs / "name" / "failure.txt").write_bytes(b"\xff\n" + HIDDEN.encode())
    purify = runs / "stages" / "purify-good"
    purify.mkdir()
    for name in ("evidence.json", "losses.json", "stage.json"):
        (purify / name).write_text('{"identification": 3, "curves": [], "seconds": "much"}')
    (runs / "stages" / "inspect-good" / "pictures" / "inverted0-0.png").write_bytes(b"\x89PNG cut")
    for name, content in {"types": {"jobs": 3}, "name": {"name": "../../x"}}.items():
        whole = json.loads((runs / "sweeps" / "sweep-0.json").read_text())
        (runs / "sweeps" / f"{name}.json").write_text(json.dumps({**whole, **content}))
    return [*bad, "folder"]


@pytest.mark.parametrize(
    "words",
    [
        ["table", "runs"],
        ["table", "runs", "--format", "csv"],
        ["table", "runs", "--format", "latex"],
        ["table", "runs", "--format", "parquet"],
        ["table", "runs", "--experiment", "F4"],
        ["report", "runs"],
        ["figure", "runs"],
        ["status", "runs"],
        ["gallery", "runs"],
    ],
    ids=lambda words: "-".join(word.strip("-") for word in words),
)
def test_a_bad_file_is_skipped_by_name_and_ends_nothing(
    hostile: list[str],
    inside: Inside,
    words: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = set(tmp_path.iterdir())
    code, shown, complaint = inside(*words)
    assert (code, shown != "") == (0, True), complaint
    for name in hostile:
        assert f"runs/{name}/result.json is left out: " in caplog.text
    assert all(line.isprintable() for line in (shown + complaint).split("\n"))
    assert set(tmp_path.iterdir()) == before  # nothing beside the folder of runs
    if words == ["table", "runs"]:
        assert shown.splitlines()[2].startswith("| rn50_mini | badnet | mine")
    if words[0] == "status":
        assert shown.endswith("\n1 complete run of no sweep\n")


def test_a_record_that_is_none_is_not_sent(
    hostile: list[str], inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    assert hostile
    assert inside("sync", "runs") == (0, "pushed 0, already there 0, failed 0\n", "")
    for name in ("good", "share"):
        assert f"runs/{name}/tracking.json is left out: " in caplog.text


def test_readings_of_other_classes_are_left_out_by_name(
    leave: Leave, inside: Inside, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vote = {"generator": "a", "clean_frequency": [0.5, 0.5], "perturbed_frequency": [0.9, 0.1]}
    for name, classes in (("good", ["cat", "d\x1b[2Jog"]), ("twice", ["cat", "cat"]), ("few", [])):
        made = leave(name, seed=len(name), target_label=None)
        folder = tmp_path / "runs" / made["stages"]["purify"]
        folder.mkdir()
        (folder / "evidence.json").write_text(json.dumps({"identification": {"votes": [vote]}}))
        made["config"] = {"data": {"classes": classes}}
        (tmp_path / "runs" / name / "result.json").write_bytes(_sealed(made))
    code, shown, _ = inside("hubness", "runs")
    assert (code, shown) == (
        0, "a: largest gain 0.40 (mean 0.40 over 1 clean models); cat +0.40, d\\x1b[2Jog -0.40\n",
    )  # fmt: skip
    for name in ("twice", "few"):
        assert f"runs/{name} is left out: votes of 2 classes" in caplog.text


def test_a_picture_that_is_none_costs_its_own_row(
    leave: Leave, inside: Inside, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave("one")
    leave("two", name="sig")
    broken = tmp_path / "runs" / "stages" / "inspect-two" / "pictures"
    (broken / "true-0.png").write_bytes((broken / "true-0.png").read_bytes()[:40])
    assert inside("gallery", "runs")[0] == 0
    assert "inspect-two/pictures: a picture cannot be read: true-0.png" in caplog.text
