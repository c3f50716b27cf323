"""What the tests of bundles share: runs, a bundle to damage, and what a refusal looks like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.bundles import export
from experiments.bundles.bundle import CARD
from experiments.bundles.card import SEALED

Inside = Callable[..., tuple[int, str, str]]
Run = Callable[..., Path]

# Six classes, and training that is long enough for predictions of several of them.
WORLD = [
    "~data.classes",
    "+data.classes={apple:apple-whole,lemon:lemon,socks:socks,key:key,cat:cat,kiwi:kiwi-bird}",
    "data.sizes.zero_shot=60", "model.pretrain.epochs=8", "model.pretrain.lr=1e-2",
    "attack.trigger.size=100",
]  # fmt: skip


@pytest.fixture
def world() -> list[str]:
    """Return the overrides of the run that bundles are made of; the last one is the trigger's."""
    return list(WORLD)


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all runs of these tests, which share their stages."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(inside: Inside, tiny_words: list[str], runs_dir: Path) -> Run:
    """Run with some overrides, and return the run's folder; runs of these tests share stages."""

    def made(*overrides: str) -> Path:
        code, shown, complaint = inside(*tiny_words, f"runs_dir={runs_dir}", *overrides)
        assert code == 0, complaint
        return Path(shown.splitlines()[-1]).parent

    return made


@pytest.fixture
def bundle(run: Run, runs_dir: Path, tmp_path: Path) -> Path:
    """Return a bundle that the test may damage."""
    whole = runs_dir / "bundle"
    if not whole.exists():
        export.write_bundle(run(*WORLD), whole)
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


@pytest.fixture
def change(bundle: Path) -> Callable[..., None]:
    """Write a card with other content, sealed as a stranger would do it."""

    def changed(**changes: Any) -> None:
        card = json.loads((bundle / CARD).read_text(encoding="utf-8"))
        for place, value in changes.items():
            *parents, key = place.split("__")
            part = card
            for name in parents:
                part = part[name]
            part[key] = value
        (bundle / CARD).write_text(json.dumps(SEALED.seal(card)), encoding="utf-8")

    return changed


@pytest.fixture
def refused() -> Callable[[tuple[int, str, str]], str]:
    """Return the one line of a command that refuses its input."""

    def line_of(told: tuple[int, str, str]) -> str:
        code, shown, complaint = told
        assert (code, shown) == (1, "")
        (line,) = complaint.splitlines()
        assert line.startswith("error: ")
        return line

    return line_of
