from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiments.composing import composed
from experiments.config import plain_config
from experiments.results.variants import variants
from experiments.stages.stages import list_stages
from experiments.stages.targets import draw, with_target

SIX = ("badnet", "blended", "sig", "wanet", "badencoder", "badclip")
MINIS = ("rn50_mini", "rn101_mini", "vit_b_16_mini", "vit_b_32_mini")


def _config(*words: str) -> dict[str, Any]:
    return dict(plain_config(composed(words)))


def _target(*words: str) -> object:
    return with_target(_config(*words))["attack"].get("target_label")


def test_the_seed_the_model_and_the_attack_decide() -> None:
    first = _target("attack=badnet", "seed=3")
    assert first == _target("attack=badnet", "seed=3", "defense=none", "attack.poison_rate=0.05")
    drawn = {_target(f"attack={attack}", f"seed={seed}") for attack in SIX for seed in range(3)}
    assert len(drawn) >= 6
    assert _target("attack=badnet", "attack.target_label=carrot") == "carrot"
    assert _target("attack=none") is None


def test_a_table_rests_on_many_classes() -> None:
    targets = _config()["targets"]
    assert len(targets) >= 12
    assert set(targets) <= set(_config()["data"]["classes"])
    cells = Counter(
        draw(targets, seed, model, attack) for seed in range(3) for model in MINIS for attack in SIX
    )
    assert len(cells) == len(targets)
    assert max(cells.values()) <= 9  # of 72


def test_the_runs_of_a_row_have_the_same_config_but_for_the_seed() -> None:
    configs = [_config("attack=badnet", f"seed={seed}") for seed in range(3)]
    assert [config["attack"]["target_label"] for config in configs] == [None] * 3
    assert variants(configs, [0, 1, 2]) == ["", "", ""]


def test_the_target_decides_the_implant_and_not_the_clean_model() -> None:
    drawn = _config("attack=badnet", "seed=3")
    named = _config(
        "attack=badnet",
        "seed=3",
        f"attack.target_label={with_target(drawn)['attack']['target_label']}",
    )
    other = _config("attack=badnet", "seed=3", "attack.target_label=carrot")
    keys = [
        {stage.role: stage.key.hash for stage in list_stages(config)}
        for config in (drawn, named, other)
    ]
    assert keys[0] == keys[1]
    assert keys[0]["pretrain"] == keys[2]["pretrain"]
    assert keys[0]["implant"] != keys[2]["implant"]


def test_data_in_files_without_targets_has_all_its_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("zebra\nowl\n")
    classes = {"_target_": "invertune.data.Classes", "path": str(tmp_path / "classes.txt")}
    drawn = set()
    whole = _config()
    for seed in range(12):
        config = {**whole, "seed": seed, "data": {"targets": [], "classes": classes}}
        drawn.add(with_target(config)["attack"]["target_label"])
    assert drawn == {"zebra", "owl"}


@pytest.mark.parametrize("targets", [None, [], "lemon", [3]])
def test_nothing_to_draw_from(targets: object) -> None:
    config = {**_config(), "targets": targets}
    with pytest.raises(ValueError, match="drawn of targets, a list of class names, got"):
        with_target(config)
