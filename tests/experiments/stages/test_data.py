"""Of files the content decides a stage, and of a data set the parts that the stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.composing import composed
from experiments.stages.data import further, of_parts, whole, without_places

ROLES = ("pairs", "clean", "zero_shot", "retrieval")


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    for role in ROLES:
        (folder / role).mkdir(parents=True, exist_ok=True)
        (folder / role / "one.png").write_bytes(role.encode())
    parts: dict[str, Any] = {
        role: {"path": str(folder / role), "images_path": None, "apart_from": None, "hint": None}
        for role in ROLES
    }
    return {"name": "own", "overlap": "refuse", "cache": str(folder), "keep": True, "workers": None,
            "classes": {"path": None}, **parts, **changes}  # fmt: skip


def test_another_place_and_another_speed_change_nothing(tmp_path: Path) -> None:
    one, two = config(tmp_path / "one"), config(tmp_path / "two", keep=False, workers=3)
    assert whole(one) == whole(two)
    (tmp_path / "two" / "pairs" / "two.png").write_bytes(b"")
    assert whole(one) != whole(two)
    assert further(one, "clean") == further(two, "clean")


def test_only_the_parts_that_a_stage_reads_decide_it(tmp_path: Path) -> None:
    data = config(tmp_path)
    assert {*whole(data)} & {*ROLES} == {"pairs"}
    assert {*further(data, "clean")["data"]} & {*ROLES} == {"clean"}
    apart = config(tmp_path, clean={"path": "x", "apart_from": "pairs"})
    assert {*of_parts(apart, ("clean",))} & {*ROLES} == {"clean", "pairs"}
    assert {*of_parts({**data, "overlap": "drop"}, ("clean",))} & {*ROLES} == {*ROLES}


def test_a_drawn_world_decides_the_training_and_nothing_beside_it() -> None:
    drawn = {"name": "icons", "sizes": {"pairs": 3}}
    assert whole(drawn) == drawn
    assert further(drawn, "clean") == {}
    assert without_places(drawn) is drawn


def test_more_clean_images_of_a_drawn_world_decide_only_what_reads_them() -> None:
    drawn = {"name": "icons", "sizes": {"pairs": 3}}
    more = {**drawn, "more_clean": 5}
    assert whole(more) == drawn
    assert further(more, "zero_shot", "retrieval") == {}
    assert further(more, "clean") == {"data": {"more_clean": 5}}
    assert further({**drawn, "more_clean": 0}, "clean") == {}
    assert without_places(more) == more


def test_broken_pictures_leave_the_attacks_their_pairs() -> None:
    """Of what is drawn so many may be broken that there are just as many as an attack takes."""
    config = composed(["data=cc3m", "model=rn50", "attack=badnet"])
    drawn, limit = config.data.pairs.count, config.data.broken_limit
    assert drawn * (1 - limit) >= config.attack.pairs == 500_000


def test_a_card_says_nothing_of_folders(tmp_path: Path) -> None:
    told = without_places(config(tmp_path / "secret"))
    assert told["pairs"]["path"] == "pairs"
    assert "secret" not in str(told)
