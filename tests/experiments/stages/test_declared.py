from __future__ import annotations

from typing import Any

import pytest

from experiments.stages.declared import (
    AttackStages,
    DefenseStages,
    attack_stages,
    defense_stages,
)


def _attack(said: Any) -> dict[str, Any]:
    return {"attack": {"_target_": "a.B", "_stages_": said, "hide": 1, "pairs": 2}}


def _defense(said: Any) -> dict[str, Any]:
    return {"defense": {"_target_": "a.B", "_stages_": said, "identify": 1, "tune": 2}}


def test_what_is_not_said_is_the_usual() -> None:
    assert attack_stages({"attack": {}}) == attack_stages(_attack(None)) == AttackStages()
    assert defense_stages({"defense": {}}) == DefenseStages(search=(), repairs=True)


def test_a_method_says_its_stages() -> None:
    said = attack_stages(_attack({"trigger": ["hide"], "trigger_from": "data"}))
    assert said == AttackStages(("hide",), "data")
    assert defense_stages(_defense({"search": ["identify"]})) == DefenseStages(("identify",))
    assert not defense_stages(_defense({"repairs": False})).repairs


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"triger": ["hide"]}, "attack._stages_ has the fields trigger, trigger_from, got"),
        (["hide"], "attack._stages_ has the fields trigger, trigger_from, got"),
        ({"trigger": ["hid"]}, r"attack._stages_.trigger is a list of fields \(hide, pairs\), got"),
        ({"trigger": "hid"}, "got 'hid'"),
        ({"trigger": ["_target_"]}, "got '_target_'"),
        ({"trigger": ["hide"], "trigger_from": "x"}, "trigger_from is one of model, data, got 'x'"),
    ],
)
def test_an_attack_that_says_what_is_not_is_named(said: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        attack_stages(_attack(said))


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"trigger": ["tune"]}, "defense._stages_ has the fields search, repairs, got"),
        ({"search": ["find"]}, r"defense._stages_.search is a list of fields \(identify, tune\)"),
        ({"repairs": "no"}, "defense._stages_.repairs is true or false, got 'no'"),
    ],
)
def test_a_defense_that_says_what_is_not_is_named(said: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        defense_stages(_defense(said))
