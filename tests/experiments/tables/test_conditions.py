from __future__ import annotations

import pytest

from experiments.tables.conditions import select

ITEMS = [{"attack": a, "seed": s} for a in ("badnet", "sig") for s in ("0", "1")]


def _select(*only: str) -> list[dict[str, str]]:
    return select(ITEMS, only, lambda item: item)


def test_an_item_has_to_meet_all_conditions() -> None:
    assert _select() == ITEMS
    assert _select("attack=sig", "seed=1") == [ITEMS[3]]
    assert _select("attack=sig,badnet", "seed=0") == [ITEMS[0], ITEMS[2]]


@pytest.mark.parametrize("condition", ["color=red", "attack", "attack="])
def test_what_is_no_condition_is_named_with_the_names(condition: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{condition}' is no condition; .* attack, seed$"):
        _select(condition)


def test_a_condition_that_nothing_meets_lists_what_is_left_to_choose_from() -> None:
    with pytest.raises(ValueError, match=r"^no run has attack=c; choices: badnet, sig$"):
        _select("attack=c")
    with pytest.raises(ValueError, match=r"choices: sig$"):
        _select("attack=sig", "attack=badnet")


def test_equal_numbers_are_one_value() -> None:
    items = [{"rate": rate} for rate in ("0.0", "0.05", "true")]
    assert select(items, ["rate=0"], lambda item: item) == items[:1]
    assert select(items, ["rate=5e-2,0.00"], lambda item: item) == items[:2]
    with pytest.raises(ValueError, match="no run has rate=1"):
        select(items, ["rate=1"], lambda item: item)
