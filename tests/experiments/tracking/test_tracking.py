from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from experiments.tracking.record import read_record
from experiments.tracking.tracking import Tracking, run_title, summary

Made = Callable[..., dict[str, Any]]


class _Run:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.codes: list[int] = []
        self.dir = "wandb/offline-run-20260101_000000-0123/files"

    def define_metric(self, *_names: str, **_options: str) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.codes.append(exit_code)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[_Run, dict[str, Any]]]:
    """Collect the runs that are opened in W&B's place."""
    runs: list[tuple[_Run, dict[str, Any]]] = []

    def init(**options: Any) -> _Run:
        runs.append((_Run(), options))
        return runs[-1][0]

    monkeypatch.setattr(wandb, "init", init)
    return runs


@pytest.mark.parametrize("set_up", ["nothing", "variable", "netrc", "other host"])
def test_online_needs_a_key(set_up: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if set_up in ("netrc", "other host"):
        host = "api.wandb.ai" if set_up == "netrc" else "example.org"
        (tmp_path / "netrc").write_text(f"machine {host} login user password none\n")
        (tmp_path / "netrc").chmod(0o600)
    if set_up == "variable":
        monkeypatch.setenv("WANDB_API_KEY", "none")
    if set_up in ("variable", "netrc"):
        Tracking("online", "p").check()
    else:
        with pytest.raises(ValueError, match="tracking=offline"):
            Tracking("online", "p").check()
    Tracking("offline", "p").check()


def test_an_unknown_mode_lists_the_modes() -> None:
    with pytest.raises(ValueError, match="offline, online, disabled, got 'on'"):
        Tracking("on", "p")


def test_what_is_logged(result: Made, tmp_path: Path, opened: list[Any]) -> None:
    tracking = Tracking("offline", "p")
    with tracking.start(tmp_path / "name", "0123", {"a": 1}, tags=["m"], sweep="today") as log:
        log.result(result(), {"implant": [3.0, 2.0], "purify/tune": [1.0]}, {})
    ((run, options),) = opened
    assert run.codes == [0]
    assert (options["name"], options["id"], options["group"]) == ("name", "0123", "today")
    assert run.rows[0] == {"curves/step": 0, "curves/implant": 3.0, "curves/purify/tune": 1.0}
    assert run.rows[1] == {"curves/step": 1, "curves/implant": 2.0}
    assert run.rows[2]["before_and_after"].columns == ["percent", "clean", "backdoored", "purified"]
    assert run.summary["zero_shot/asr/before"] == 0.9
    record = read_record(tmp_path / "name")
    assert record == {"id": "0123", "mode": "offline", "project": "p", "group": None,
                      "run": "offline-run-20260101_000000-0123"}  # fmt: skip
    with tracking.start(tmp_path / "name", "0123", {"a": 1}) as log:
        log.result(result(), {}, {})
    assert len(opened) == 1  # logged the same way before
    with Tracking("offline", "other").start(tmp_path / "name", "0123", {}):
        pass
    assert len(opened) == 2


def test_a_failure_finishes_the_run_as_failed(tmp_path: Path, opened: list[Any]) -> None:
    tracking = Tracking("offline", "p", group="g")
    with pytest.raises(ValueError, match="midway"), tracking.start(tmp_path, "01", {}, sweep="s"):
        raise ValueError("midway")
    ((run, options),) = opened
    assert run.codes == [1]
    assert options["group"] == "g"
    with tracking.start(tmp_path, "01", {}):
        pass
    assert len(opened) == 2  # what failed is logged again


def test_disabled_opens_nothing(result: Made, tmp_path: Path, opened: list[Any]) -> None:
    with Tracking("disabled", "p").start(tmp_path / "run", "01", {}) as log:
        log.result(result(), {}, {})
    assert not opened
    assert not (tmp_path / "run").exists()


def test_the_summary_has_one_number_per_model_and_measure(result: Made) -> None:
    numbers = summary(result())
    assert numbers["zero_shot/asr/clean"] == 0.01
    assert numbers["zero_shot/asr/before"] == 0.9
    assert numbers["zero_shot/asr/after"] == 0.02
    assert numbers["zero_shot/ca/after"] == 0.75
    assert numbers["retrieval/asr/r@1/clean"] == 0.5
    assert numbers["retrieval/image_to_text/r@1/before"] == 0.5
    assert numbers["identification/correct"] is True
    assert numbers["seconds/purify/identify"] == 4.0


def test_the_summary_has_what_a_detector_said(result: Made) -> None:
    of_model = {"name": "decree", "score": 0.9, "threshold": 0.5, "flagged": True}
    numbers = summary({**result(), "detection": of_model})  # type: ignore[typeddict-item]
    assert numbers["detection/score"] == 0.9
    assert numbers["detection/flagged"] is True
    rate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    of_pairs = {"name": "dao", "auroc": rate, "average_precision": 0.4}
    numbers = summary({**result(), "detection": of_pairs})  # type: ignore[typeddict-item]
    assert numbers["detection/auroc"] == 0.8
    assert numbers["detection/average_precision"] == 0.4
    assert not any(name.startswith("detection") for name in summary(result()))


def test_pictures_and_the_final_table_are_logged(
    result: Made, tmp_path: Path, opened: list[Any]
) -> None:
    image = Image.new("RGB", (4, 4))
    with Tracking("offline", "p").start(tmp_path / "name", "0123", {}, name="a title") as log:
        log.result(result(), {}, {"true": [image], "inverted0": [image, image]})
    ((run, options),) = opened
    assert options["name"] == "a title"
    (row,) = run.rows
    assert set(row) == {"before_and_after", "triggers/true", "triggers/inverted0"}
    assert len(row["triggers/inverted0"]) == 2
    assert row["before_and_after"].data[1] == ["ASR", "1.0", "90.0", "2.0"]


def test_a_run_that_was_logged_before_runs_had_a_name_is_not_logged_again(
    tmp_path: Path, opened: list[Any]
) -> None:
    (tmp_path / "tracking.json").write_text(
        '{"id": "01", "mode": "offline", "project": "p", "group": null}'
    )
    with Tracking("offline", "p").start(tmp_path, "01", {}):
        pass
    assert not opened
    assert (read_record(tmp_path) or {})["run"] is None
    (tmp_path / "tracking.json").write_text('{"id": ')
    assert read_record(tmp_path) is None


def test_a_title_says_what_was_varied() -> None:
    parts = ["rn50_mini", "badnet", "invertune"]
    assert run_title(parts, 0) == "rn50_mini: badnet → invertune, seed 0"
    assert run_title([*parts, "decree"], 0, ["detector.epochs=3"]) == (
        "rn50_mini: badnet → invertune, seed 0, detector decree, epochs=3"
    )
    overrides = [
        "experiment=f4_sensitivity", "attack=badnet", "seed=2", "runs_dir=a=b", "hydra.mode=RUN",
        "tracking.group=g", "evaluation.batch_size=5", "defense.tune.weights.preserve=5.0",
        "+attack.trigger.place=top_left",
    ]  # fmt: skip
    title = run_title(parts, 2, overrides)
    assert title == "rn50_mini: badnet → invertune, seed 2, preserve=5.0, place=top_left"
