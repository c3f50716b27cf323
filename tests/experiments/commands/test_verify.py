from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.bundles.verify import Verification
from experiments.commands import verify

Inside = Callable[..., tuple[int, str, str]]
RATE = {"value": 0.75, "low": 0.7, "high": 0.8, "n": 100}
RATES: dict[str, Any] = {"ca": RATE, "asr": RATE, "target_rate": RATE, "own_class": RATE}
CARD = {
    "model": "backdoored", "architecture": {"name": "rn50_mini"}, "attack": {"name": "badnet"},
    "target": {"name": "lemon", "index": 1}, "seed": 0, "measured": RATES,
    "versions": {"torch": "0.4"},
}  # fmt: skip


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the measurement find some rates."""

    def measured(**changes: Any) -> None:
        monkeypatch.setattr(verify, "verify", lambda *_: Verification(CARD, {**RATES, **changes}))

    return measured


def test_equal_rates_are_a_success(inside: Inside, found: Callable[..., None]) -> None:
    found()
    code, shown, complaint = inside("verify", "mine")
    assert (code, complaint) == (0, "")
    assert shown.splitlines()[0] == ("rn50_mini, backdoored: attack badnet, target lemon, seed 0")
    assert shown.splitlines()[-1] == "every rate is the same"


def test_another_rate_is_a_failure_that_says_what_was_measured_on(
    inside: Inside, found: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    found(asr={**RATE, "value": 0.7500001})
    code, shown, _ = inside("verify", "mine", "--device", "cpu")
    assert code == 1
    assert shown.splitlines()[-1].startswith("not the same: ASR")
    first, second = caplog.messages
    assert first.startswith("measured here on cpu in ")
    assert second.startswith("the card was made with torch 0.4 (here ")


@pytest.mark.parametrize("card", [None, "{}", "no json"])
def test_a_folder_that_is_no_bundle_is_one_line(
    card: str | None, inside: Inside, tmp_path: Path
) -> None:
    if card is not None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "card.json").write_text(card)
    code, shown, complaint = inside("verify", "mine")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: mine")
