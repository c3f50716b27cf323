from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from experiments.commands import benchmark
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle
from invertune.training.recipe import Recipe

Inside = Callable[..., tuple[int, str, str]]
RECIPE = Recipe(
    epochs=1, batch_size=8, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1, warmup=0.1
)  # fmt: skip


def test_every_part_is_timed_against_the_plain_one(
    tiny_spec: Callable[[str], ModelSpec], data: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_STEPS", 2)
    rows = benchmark.measure(replace(tiny_spec("resnet"), pretrain=RECIPE), data, rounds=1)
    assert [name for name, _, _ in rows] == ["training", "encoding", "inversion"]
    assert all(ours > 0 and plain > 0 for _, ours, plain in rows)


def test_the_table_has_rates_and_ratios(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_SIDE", 16)
    rows = [("training", 900.0, 450.0), ("encoding", 5000.0, 2500.0), ("inversion", 10.0, 10.0)]
    monkeypatch.setattr(benchmark, "measure", lambda *_: rows)
    code, shown, complaint = inside("benchmark", "model=rn50_mini")
    assert (code, complaint) == (0, "")
    lines = shown.splitlines()
    assert lines[0].startswith("rn50_mini, 64 px, ")
    assert "   900 img/s  450 img/s   2.00x" in lines[3]
    assert "1.00x" in lines[5]


def test_a_model_without_a_recipe_is_one_line(inside: Inside) -> None:
    code, shown, complaint = inside("benchmark", "model=rn50")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert "choose one of the minis" in complaint


def test_help_measures_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "measure", lambda *_: pytest.fail("it measures"))
    assert inside("benchmark", "--help")[:2] == (
        0, "usage: invertune benchmark [OVERRIDE ...], such as model=vit_b_16_mini\n",
    )  # fmt: skip
