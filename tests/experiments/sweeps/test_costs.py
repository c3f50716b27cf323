from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.sweeps.costs import Costs, duration, kind_of, means_by_kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"),
     (3600, "1 h 00 min"), (90061, "25 h 01 min")],
)  # fmt: skip
def test_a_duration_is_what_people_say(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_stages_of_a_kind_share_their_mean() -> None:
    assert kind_of("purify-0123abcd") == "purify"
    spent = {"purify-1": 2.0, "purify-2": 4.0, "implant-1": 10.0}
    assert means_by_kind(spent) == {"purify": 3.0, "implant": 10.0}


@pytest.mark.parametrize(
    ("content", "seconds"),
    [('{"seconds": 3}', 3.0), ("{}", None), ("[]", None), ("{", None), (None, None),
     ('{"seconds": NaN}', None), ('{"seconds": -1}', None), ('{"seconds": "3"}', None),
     (f'{{"seconds": {10**400}}}', None), ("[" * 10**6, None)],
)  # fmt: skip
def test_what_is_not_complete_has_no_cost(
    tmp_path: Path, content: str | None, seconds: float | None
) -> None:
    path = tmp_path / "stages" / "purify-1" / "stage.json"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    assert Costs(tmp_path).seconds("purify-1") == seconds


def test_a_manifest_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "stages" / "purify-1" / "stage.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"seconds": 3}))
    costs = Costs(tmp_path)
    assert costs.seconds("purify-1") == 3
    path.unlink()
    assert costs.seconds("purify-1") == 3
