"""How many clean images a defense gets: a group of the config, which changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from experiments.config import CONF, plain_config, result_id
from experiments.stages.parts import build
from experiments.stages.stages import list_stages
from invertune.defense import check_needs

BUDGETS = {"equal": 512, "paper": 5120}
ON_PAIRS = ("ft", "cleanclip", "cleanerclip")
OWN = [f"data.{name}.path=mine" for name in ("classes", "pairs", "clean", "zero_shot", "retrieval")]


def _resolved(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return dict(plain_config(compose("config", list(overrides))))


@pytest.mark.parametrize("defense", ON_PAIRS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_is_the_number_of_clean_pairs(budget: str, defense: str) -> None:
    config = _resolved(f"budget={budget}", f"defense={defense}")
    built = build(config["defense"])
    assert built.clean_samples == BUDGETS[budget]
    assert built.recipe.steps(built.clean_samples) == {"equal": 80, "paper": 400}[budget]
    assert config["budget"]["name"] == budget
    data = build(config["data"]).load()
    assert len(data.ids("clean")) == {"equal": 2000, "paper": 5120}[budget]
    check_needs(built, data, poisoned_pairs=False)


@pytest.mark.parametrize(("budget", "lr"), [("equal", 1e-3), ("paper", 3e-3)])
@pytest.mark.parametrize("defense", ["cleanclip", "cleanerclip", "abd"])
def test_rates_of_augmented_pairs_are_the_budgets(budget: str, lr: float, defense: str) -> None:
    assert build(_resolved(f"budget={budget}", f"defense={defense}")["defense"]).recipe.lr == lr


def test_every_budget_is_known() -> None:
    assert {path.stem for path in (CONF / "budget").glob("*.yaml")} == set(BUDGETS)


def test_the_default_is_what_invertune_uses() -> None:
    config = _resolved()
    assert config["budget"]["name"] == "equal"
    assert config["budget"]["clean_samples"] == build(config["defense"]).clean_samples
    assert "more_clean" not in config["data"]


def test_a_budget_makes_only_repairs_anew() -> None:
    equal, paper = (
        {stage.role: stage.key for stage in list_stages(_resolved(f"budget={name}"))}
        for name in BUDGETS
    )
    same = {role for role, key in equal.items() if key == paper[role]}
    assert same == {"pretrain", "implant", "evaluate/clean", "evaluate/backdoored"}
    assert paper["purify/search"].config["data"] == {"more_clean": 3120}  # type: ignore[index]


def test_trainings_for_a_trigger_are_not_made_anew() -> None:
    made = [
        {
            stage.role: stage.key.hash
            for stage in list_stages(_resolved("attack=ghostencoder", word))
        }
        for word in ("budget=equal", "budget=paper")
    ]
    assert made[0]["implant/trigger"] == made[1]["implant/trigger"]


def test_a_result_is_told_by_what_the_budget_decides() -> None:
    ids = [result_id(_resolved("defense=ft", f"budget={budget}")) for budget in BUDGETS]
    assert ids[0] != ids[1]
    renamed = _resolved("defense=ft", "budget.name=mine")
    assert result_id(renamed) == ids[0]
    assert result_id(_resolved("defense=ft", "budget.clean_samples=64")) not in ids


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("data", [["data=cc3m", "model=rn50"], ["data=files", *OWN]])
def test_other_data_are_as_they_are(budget: str, data: list[str]) -> None:
    config = _resolved(*data, f"budget={budget}", "defense=cleanclip")
    assert config["data"] == _resolved(*data)["data"]
    assert build(config["defense"]).clean_samples == BUDGETS[budget]
    build(config["data"])


@pytest.mark.parametrize(("defense", "part"), [("ssl_cleanse", ""), ("tbar", "negate")])
def test_openais_weights_are_tuned_as_slowly_as_by_fine_tuning(defense: str, part: str) -> None:
    config = _resolved(f"defense={defense}", "data=cc3m", "model=rn50")["defense"]
    assert build(config[part] if part else config).recipe.lr == 1e-5


@pytest.mark.parametrize("defense", ON_PAIRS)
def test_the_papers_data_come_with_the_papers_learning_rate(defense: str) -> None:
    small, large = (
        build(_resolved(f"defense={defense}", *data)["defense"]).recipe
        for data in ([], ["data=cc3m", "model=rn50"])
    )
    assert (large.lr, large.epochs, large.batch_size) == (1e-5, 10, 64)
    # 50 steps of ten passes over 100,000 pairs
    assert round(large.warmup * large.steps(100_000)) == 50
    assert small.lr > large.lr
