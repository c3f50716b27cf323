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


HIDDEN = "lemon\x1b[2J"


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ("seed", -1),
        ("seed", True),
        ("id", "abcd1234\n"),
        ("model/name", HIDDEN),
        ("model/name", ""),
        ("model/parameters", -1),
        ("model/image_size", "64"),
        ("data/name", "a\nb"),
        ("data/classes", -5),
        ("attack/name", None),
        ("attack/target_label", HIDDEN),
        ("attack/target_label", 3),
        ("attack/poison_rate", 1.1),
        ("attack/poison_rate", "0.1"),
        ("attack/poisoned", -1),
        ("attack/pairs", 0.5),
        ("defense/name", "a\u202eb"),
        ("defense/clean_samples", -1),
        ("defense/knows", 7),
        ("identification/target_label", HIDDEN),
        ("identification/gain", "0.9"),
        ("identification/runner_up_gain", 1e300),
        ("identification/correct", "yes"),
        ("inversion/asr", 1.5),
        ("inversion/mask_share", -0.1),
        ("inversion/embedding_cosine", 7),
        ("inversion/images", -1),
        ("inversion/own_number", 10**400),
        ("inversion/per_trigger", [{"asr": 0.5}]),
        ("scores/purified/zero_shot/asr/value", 0.9),  # above its interval
        ("scores/purified/zero_shot/ca/low", 0.8),
        ("scores/purified/zero_shot/ca/n", -1),
        ("scores/purified/zero_shot/ca/n", 10**400),
        ("scores/clean/retrieval/asr/r@1/high", 0.1),
        ("seconds/implant", 10**400),
        ("seconds/a\nb", 1),
        ("peak_memory_mib", -1),
        ("peak_memory_mib", 10**400),
        ("versions/torch", HIDDEN),
        ("detection/name", HIDDEN),
        ("detection/of", "both"),
        ("detection/flagged", "yes"),
        ("detection/score", "0.9"),
        ("detection/clean_samples", -1),
        ("stages/purify", "stages/../../elsewhere"),
        ("stages/purify", "stages/.."),
        ("stages/purify", "/etc"),
        ("stages/purify", "stages/a/b"),
        ("stages/purify", 3),
    ],
)
def test_whatever_is_out_of_its_range_is_neither_written_nor_read(
    result: Made, tmp_path: Path, way: str, value: Any
) -> None:
    detection = {"name": "decree", "of": "model", "needs": "images", "clean_samples": 512,
                 "knows": "nothing", "score": 0.9, "threshold": 0.5, "flagged": True}  # fmt: skip
    made = {**result(), "stages": {}, "detection": detection,
            "inversion": {"asr": 0.5, "mask_share": 0.1, "embedding_cosine": 0.5}}  # fmt: skip
    path = write_result(tmp_path / "run", made)
    *parents, key = way.split("/") if not way.startswith("seconds/a") else ["seconds", "a\nb"]
    made = json.loads(json.dumps(made))  # scores share no rate
    part = made
    for parent in parents:
        part = part[parent]
    part[key] = value
    place = "/".join(parents) or way
    with pytest.raises(ValueError, match=place):
        validate(made)
    # Whoever can write a file can seal it too.
    path.write_text(json.dumps({**made, "sha256": digest(made)}))
    with pytest.raises(ValueError, match=place):
        read_result(path)


def test_the_first_place_is_named_however_deep_it_is(result: Made) -> None:
    wrong = result()
    wrong["scores"]["purified"]["zero_shot"]["asr"]["value"] = 0.9
    said = r"scores/purified/zero_shot/asr: low <= value <= high does not hold of"
    with pytest.raises(ValueError, match=said):
        validate(wrong)


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


@pytest.mark.parametrize(
    ("field", "value"),
    [("auroc", 0.9), ("average_precision", 1.5), ("fpr_at_95_tpr", "0"), ("poisoned", -1)],
)
def test_a_detector_of_pairs_has_shares(result: Made, field: str, value: Any) -> None:
    rate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    right = {"name": "dao", "of": "pairs", "needs": "poisoned_pairs", "clean_samples": 0,
             "knows": "nothing", "pairs": 50, "poisoned": 5, "auroc": rate,
             "average_precision": 0.4, "fpr_at_95_tpr": 0.3}  # fmt: skip
    nothing = {"auroc": None, "average_precision": None, "fpr_at_95_tpr": None}
    for detection in (right, {**right, **nothing}, None):
        validate({**result(), "detection": detection})
    with pytest.raises(ValueError, match="detection"):
        validate({**result(), "detection": {**right, field: value}})


def test_the_id_names_what_numbers_depend_on(resolve: Resolve) -> None:
    same = ("device=cpu", "threads=3", "runs_dir=x", "tracking=offline", "evaluation.batch_size=3")
    assert result_id(resolve(*same)) == result_id(resolve())
    assert result_id(resolve("attack.poison_rate=0.3")) != result_id(resolve())
