from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from experiments.tracking import Tracking, summary

Made = Callable[..., dict[str, Any]]


class _Run:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.codes: list[int] = []

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
    assert run.summary["backdoored/zero_shot/asr"] == 0.9
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
    assert numbers["purified/zero_shot/asr"] == 0.02
    assert numbers["clean/retrieval/asr/r@1"] == 0.5
    assert numbers["identification/correct"] is True
    assert numbers["seconds/purify/identify"] == 4.0
