from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

import attacks.triggers
from attacks.triggers import (
    BlendedTrigger,
    PatchTrigger,
    SinusoidalTrigger,
    Trigger,
    load_trigger,
    round_to_8_bit,
    trigger_state,
)

CONF = Path(__file__).parents[2] / "conf" / "attack"


def _configured() -> dict[str, Trigger]:
    found = {}
    for path in sorted(CONF.glob("*.yaml")):
        config = OmegaConf.merge({"seed": 3}, OmegaConf.load(path))
        if "trigger" in config:
            found[path.stem] = instantiate(config.trigger)
    return found


TRIGGERS = _configured()
each_trigger = pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS)


def _images(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return round_to_8_bit(torch.rand(4, 3, side, side, generator=generator))


def test_every_trigger_is_of_some_attack() -> None:
    public = [getattr(attacks.triggers, name) for name in attacks.triggers.__all__]
    classes = {kind for kind in public if isinstance(kind, type) and is_dataclass(kind)}
    assert classes <= {type(trigger) for trigger in TRIGGERS.values()}


@each_trigger
@pytest.mark.parametrize("side", [64, 224])
def test_contract(trigger: Trigger, side: int) -> None:
    images = _images(side)
    before = images.clone()
    stamped = trigger(images)
    assert stamped.shape == images.shape
    assert stamped.dtype == images.dtype
    assert stamped.min() >= 0
    assert stamped.max() <= 1
    assert not torch.equal(stamped, images)
    assert torch.equal(images, before)
    assert torch.equal(round_to_8_bit(stamped), stamped)
    torch.rand(10)  # moves the global generator
    assert torch.equal(trigger(images), stamped)
    assert torch.equal(trigger(images[2:3]), stamped[2:3])  # the batch does not matter


@each_trigger
def test_a_saved_image_is_the_stamped_one(trigger: Trigger) -> None:
    stamped = trigger(_images(64))
    assert torch.equal(stamped.mul(255).round().to(torch.uint8).float().div(255), stamped)


@each_trigger
def test_its_file_gives_it_back(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "trigger.json"
    path.write_text(json.dumps(trigger_state(trigger)))
    loaded = load_trigger(path)
    assert loaded == trigger
    assert torch.equal(loaded(_images(64)), trigger(_images(64)))


@pytest.mark.parametrize(
    "target",
    ["os.system", "pathlib.Path", "", "attacks.triggers.base.Path",
     "attacks.triggers.base.load_trigger",
     "attacks.triggers.nope.Nope", "attacks.triggers.patch.Nope"],
)  # fmt: skip
def test_a_file_cannot_name_another_class(target: str, tmp_path: Path) -> None:
    path = tmp_path / "trigger.json"
    path.write_text(json.dumps({"_target_": target}))
    with pytest.raises(ValueError, match=r"trigger\.json names .* a class of attacks\.triggers"):
        load_trigger(path)


@pytest.mark.parametrize(
    ("corner", "top", "left"),
    [("top_left", 2, 2), ("top_right", 2, 22), ("bottom_left", 22, 2), ("bottom_right", 22, 22)],
)
def test_a_patch_changes_only_its_box(corner: str, top: int, left: int) -> None:
    images = _images(32)
    stamped = PatchTrigger(size=8, corner=corner, margin=2)(images)
    box = (..., slice(top, top + 8), slice(left, left + 8))
    assert (stamped[box] == stamped[:1][box]).all()
    assert not torch.equal(stamped[box], images[box])
    stamped[box] = images[box]
    assert torch.equal(stamped, images)


def test_the_seed_decides_the_patch() -> None:
    images = _images(16)
    assert not torch.equal(PatchTrigger(8, seed=0)(images), PatchTrigger(8, seed=1)(images))
    assert not torch.equal(BlendedTrigger(0.2, seed=0)(images), BlendedTrigger(0.2, seed=1)(images))


@pytest.mark.parametrize(("size", "margin"), [(33, 0), (30, 3)])
def test_a_patch_larger_than_the_image_is_one_clear_line(size: int, margin: int) -> None:
    with pytest.raises(ValueError, match="does not fit into a 32x40 image") as caught:
        PatchTrigger(size, margin=margin)(torch.zeros(1, 3, 32, 40))
    assert f"size={size}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PatchTrigger(8, corner="center"), "corner is one of top_left, .* got 'center'"),
        (lambda: PatchTrigger(0), "size is at least 1"),
        (lambda: BlendedTrigger(alpha=1.0), r"alpha is a share in \(0, 1\), got 1.0"),
        (lambda: SinusoidalTrigger(delta=2.0, frequency=6), r"delta is in \(0, 1\]"),
        (lambda: SinusoidalTrigger(delta=0.1, frequency=0), "frequency positive"),
    ],
)
def test_a_wrong_value_is_named(make: type[Trigger], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_blended_mixes_a_fifth_of_noise() -> None:
    trigger = BlendedTrigger(alpha=0.2)
    black, white = trigger(torch.zeros(1, 3, 64, 64)), trigger(torch.ones(1, 3, 64, 64))
    assert black.max() == pytest.approx(0.2, abs=0.01)
    assert black.max() <= 0.2 + 0.5 / 255
    assert white.min() == pytest.approx(0.8, abs=0.01)
    assert white.min() >= 0.8 - 0.5 / 255
    gray = trigger(torch.full((1, 3, 64, 64), 0.5))
    assert gray.mean() == pytest.approx(0.5, abs=0.005)


def test_sig_has_six_periods_across_the_image() -> None:
    gray, delta = 128 / 255, 40 / 255
    stamped = SinusoidalTrigger(delta=delta, frequency=6)(torch.full((1, 3, 224, 224), gray))
    row = stamped[0, 0, 0]
    assert (stamped == row).all()  # rows and channels are identical
    assert row[0] == pytest.approx(gray)
    assert row.max() == pytest.approx(gray + delta)  # column 84 is 2 1/4 periods
    assert row.min() == pytest.approx(gray - delta)
    assert torch.fft.rfft(row - gray).abs().argmax() == 6
