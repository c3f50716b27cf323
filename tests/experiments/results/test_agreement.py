from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.results.agreement import check_agreement
from experiments.results.result import read_result, write_result

Made = Callable[..., dict[str, Any]]


FLAGGED = {"name": "decree", "of": "model", "needs": "images", "clean_samples": 512,
           "knows": "nothing", "score": 0.9, "threshold": 0.5, "flagged": True}  # fmt: skip


def _config(**changes: Any) -> dict[str, Any]:
    names = {"model": "rn50_mini", "data": "icons", "attack": "badnet", "defense": "mine",
             "detector": "decree"}  # fmt: skip
    return {"seed": 0, **{part: {"name": name} for part, name in (names | changes).items()}}


def test_a_result_that_agrees_with_itself_is_read(result: Made, tmp_path: Path) -> None:
    plain = {name: part for name, part in _config().items() if name != "detector"}
    check_agreement({**result(), "config": plain})
    check_agreement({**result(), "config": {**plain, "detector": None}})
    check_agreement({**result(), "config": _config(), "detection": FLAGGED})
    path = write_result(tmp_path, result())  # type: ignore[arg-type]
    assert read_result(path)["seed"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(seed=1), "its seed is 1, its config's 0"),
        (lambda r: r["attack"].update(name="sig"), "its attack.name is 'sig', its config's 'badn"),
        (lambda r: r["defense"].update(name="other"), "its defense.name is 'other', its config's"),
        (lambda r: r["model"].update(name="vit"), "its model.name is 'vit', its config's 'rn50_m"),
        (lambda r: r["data"].update(name="cc3m"), "its data.name is 'cc3m', its config's 'icons'"),
        (lambda r: r.update(detection={**FLAGGED, "name": "dao"}), "its detector.name is 'dao', i"),
        (lambda r: r.update(detection={**FLAGGED, "flagged": False}), "its detection is flagged=F"),
        (lambda r: r.pop("detection"), "its config has a detector, and it has no detection"),
        (lambda r: r["attack"].update(poisoned=8001), "it has 8001 poisoned of 8000 pairs"),
        (lambda r: r["scores"]["clean"]["zero_shot"]["asr"].update(n=0), "asr is 0.01 of no case"),
        (lambda r: r["scores"]["clean"]["retrieval"]["asr"]["r@5"].update(n=0),
         r"scores/clean/retrieval/image_to_text/r@5 is 0\.7 of no case"),
    ],
)  # fmt: skip
def test_what_is_said_twice_is_the_same(
    change: Callable[[dict[str, Any]], None], said: str, result: Made, tmp_path: Path
) -> None:
    made = {**result(), "config": _config(), "detection": FLAGGED}
    change(made)
    path = write_result(tmp_path, made)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        read_result(path)
