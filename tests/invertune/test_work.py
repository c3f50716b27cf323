"""What a plan says that a method does is what it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate

from experiments.config import CONF
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.work import Work

Tiny = Callable[[str], CLIP]


def test_work_adds_up() -> None:
    one, two = Work(1, 2, 3, 4, 5, 6, 7), Work(forward=10)
    assert one + two == Work(11, 2, 3, 4, 5, 6, 7)
    assert one * 2 == Work(2, 4, 6, 8, 10, 12, 14)
    assert one.templated(80) == Work(1, 2, 3, 4 + 7 * 80, 5, 6, 0)


@contextmanager
def counting(model: CLIP) -> Iterator[dict[str, int]]:
    """Count the images that go through a model with and without a gradient."""
    seen = {"forward": 0, "back": 0}
    encode = model.encode_image

    def counted(images: torch.Tensor) -> torch.Tensor:
        seen["back" if torch.is_grad_enabled() else "forward"] += len(images)
        return encode(images)

    model.encode_image = counted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del model.encode_image


@pytest.fixture
def default() -> dict[str, Any]:
    """Return the default defense's config, smaller."""
    path = CONF / "defense" / "invertune.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in ("identify", "verify", "invert"):
        config[part] |= {"images": 6, "held": 5}
    return config


def test_a_scan_is_as_long_as_it_says(
    default: dict[str, Any], tiny: Tiny, plain: DataBundle
) -> None:
    scan, model = instantiate(default["identify"], _convert_="all"), tiny("resnet")
    with counting(model) as seen:
        scan(model, plain.clean, seed=0)
    said = scan.work(len(plain.class_names))
    assert seen["back"] == said.back == scan.passes(len(plain.class_names))
    assert seen["forward"] == said.forward + scan.held  # what the model takes the images for


def test_a_verification_is_as_long_as_it_says(
    default: dict[str, Any], tiny: Tiny, plain: DataBundle
) -> None:
    scan = instantiate(default["identify"], _convert_="all")
    verify, model = instantiate(default["verify"], _convert_="all"), tiny("resnet")
    found = scan(model, plain.clean, seed=0)
    with counting(model) as seen:
        verify(model, plain.clean, found, seed=0)
    assert seen["back"] == verify.work().back
    assert seen["forward"] == verify.work().forward + verify.held


def test_an_inversion_is_as_long_as_it_says_at_most(
    default: dict[str, Any], tiny: Tiny, plain: DataBundle
) -> None:
    invert, model = instantiate(default["invert"], _convert_="all"), tiny("resnet")
    with counting(model) as seen:
        triggers, _ = invert(model, plain.clean, 1, seed=0)
    said = invert.work()
    assert seen["back"] == said.back
    assert 0 < seen["forward"] <= said.forward + invert.held
    with counting(model) as again:
        invert.refresh(model, plain.clean, triggers, seed=0, stage="again")
    assert again["back"] <= invert.refreshing_work().back


def test_every_reading_of_the_prompts_is_counted(
    default: dict[str, Any], tiny: Tiny, plain: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("identify", "verify", "invert"):
        default[part] |= {"forms": default[part]["forms"][:1], "probes": []}
    default["tune"] |= {"steps": 5, "refresh_every": 2, "samples": 11, "batch_size": 6}
    default |= {"always_repair": True, "fallback": 1}
    defense = instantiate({k: v for k, v in default.items() if k != "_stages_"}, _convert_="all")
    model, clean = tiny("resnet"), dataclasses.replace(plain.clean, templates=["{}", "a {}"])
    classes, read = len(clean.prompts), CLIP.encode_text
    said = {stage: work.templated(2).texts for stage, work in defense.work(classes).items()}
    texts = [0]

    def told(self: CLIP, given: Sequence[str]) -> torch.Tensor:
        texts[0] += len(given)
        return read(self, given)

    monkeypatch.setattr(CLIP, "encode_text", told)
    found = defense.search(model, clean, seed=0)
    assert texts == [said["search"]] == [3 * classes * 2]
    defense.repair(model, clean, found, seed=0)
    # Tuning, two refreshments of its triggers, and the look at what is left.
    assert texts[0] - said["search"] == said["purify"] == 4 * classes * 2


def test_the_whole_defense_says_its_stages(default: dict[str, Any]) -> None:
    defense = instantiate({k: v for k, v in default.items() if k != "_stages_"}, _convert_="all")
    said = defense.work(100)
    assert {*said} == {"search", "purify"}
    assert said["search"].back > defense.identify.passes(100)
    assert said["purify"].trained == 2 * 240 * 64
