"""What every trigger promises, and its files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

import attacks.triggers
from attacks.poisoning import poison
from attacks.triggers import (
    AdditiveTrigger,
    CodeTrigger,
    HiddenTrigger,
    StampTrigger,
    Trigger,
    WarpTrigger,
    load_trigger,
    round_to_8_bit,
    save_trigger,
    trigger_state,
    trigger_tensors,
)
from attacks.triggers.base import TENSORS
from attacks.triggers.hidden import HidingNetwork
from invertune.data.bundle import ImageTextPairs

CONF = Path(__file__).parents[2] / "conf"


def _configured() -> dict[str, Trigger]:
    found = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted(CONF.glob("attack/*.yaml")):
            config = compose("config", [f"attack={path.stem}", "seed=3"])
            plain = OmegaConf.to_container(config, resolve=True)
            assert isinstance(plain, dict)
            trigger = instantiate(plain["attack"].get("trigger"), _convert_="all")
            if trigger is not None:
                found[path.stem] = trigger
    return found


def _learned() -> dict[str, Trigger]:
    """Return triggers of the kinds that no YAML holds, because an attack makes them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch, delta = torch.rand(3, 16, 16), (torch.rand(3, 224, 224) - 0.5) * 8 / 255
        weights = HidingNetwork(6, 2, 0.1).state_dict()
    return {
        "a stamp": StampTrigger(round_to_8_bit(patch)),
        "noise": AdditiveTrigger(delta),
        "a code": CodeTrigger([0, 3, 7, 8, 15], 112),
        "a secret": HiddenTrigger([0, 1, 1, 0, 1, 0], 2, 0.1, weights),
    }


CONFIGURED, LEARNED = _configured(), _learned()
TRIGGERS = CONFIGURED | LEARNED
each_trigger = pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS)


def _images(height: int, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return round_to_8_bit(torch.rand(4, 3, height, width or height, generator=generator))


def test_every_kind_of_trigger_is_among_these() -> None:
    public = [getattr(attacks.triggers, name) for name in attacks.triggers.__all__]
    classes = {kind for kind in public if isinstance(kind, type) and is_dataclass(kind)}
    assert classes == {type(trigger) for trigger in TRIGGERS.values()}


@each_trigger
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (64, 96)], ids=str)
def test_contract(trigger: Trigger, size: tuple[int, int]) -> None:
    images = _images(*size)
    before = images.clone()
    stamped = trigger(images)
    assert stamped.shape == images.shape
    assert stamped.dtype == images.dtype
    assert not stamped.requires_grad
    assert stamped.min() >= 0
    assert stamped.max() <= 1
    assert (stamped != images).flatten(1).any(dim=1).all()
    assert torch.equal(images, before)
    assert torch.equal(round_to_8_bit(stamped), stamped)
    torch.rand(10)  # moves the global generator
    state = torch.random.get_rng_state()
    assert torch.equal(trigger(images), stamped)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(trigger(images[2:3]), stamped[2:3])  # the batch does not matter
    assert torch.equal(trigger(images.flip(0)), stamped.flip(0))


@each_trigger
def test_the_kind_of_number_does_not_matter(trigger: Trigger) -> None:
    images = _images(64)
    stamped = trigger(images.double())
    assert stamped.dtype == torch.float64
    # A value between two levels may be rounded to either.
    assert (stamped - trigger(images)).abs().max() < 1.01 / 255


@each_trigger
def test_a_saved_image_is_the_stamped_one(trigger: Trigger, tmp_path: Path) -> None:
    pictures = _images(224).mul(255).round().byte()
    pictures[0], pictures[1] = 0, 255  # what is added to them leaves the range
    pairs = ImageTextPairs(pictures, ["a cat"] * 4, list("abcd"))
    poisoned = poison(pairs, torch.arange(4), trigger, ["a lemon"] * 4)
    wanted = trigger(pairs.batch(torch.arange(4)))
    for i, picture in enumerate(poisoned.pictures(torch.arange(4))):
        path = tmp_path / f"{i}.png"
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
        loaded = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255
        assert torch.equal(loaded, wanted[i])


@each_trigger
def test_its_files_give_it_back(trigger: Trigger, tmp_path: Path) -> None:
    save_trigger(trigger, tmp_path)
    loaded = load_trigger(tmp_path)
    assert type(loaded) is type(trigger)
    assert trigger_state(loaded) == trigger_state(trigger)
    tensors, found = trigger_tensors(trigger), trigger_tensors(loaded)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert (tmp_path / TENSORS).exists() == bool(tensors)
    for side in (64, 224):
        assert torch.equal(loaded(_images(side)), trigger(_images(side)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StampTrigger(torch.rand(16, 16)), r"patch is .* \(3, S, S\), got \(16, 16\)"),
        (lambda: StampTrigger(torch.rand(3, 16, 8)), r"\(3, S, S\), got \(3, 16, 8\)"),
        (lambda: StampTrigger(torch.rand(3, 0, 0)), r"\(3, S, S\), got \(3, 0, 0\)"),
        (lambda: StampTrigger(torch.zeros(3, 4, 4, dtype=torch.uint8)), "patch holds finite"),
        (lambda: StampTrigger(torch.full((3, 4, 4), torch.nan)), "patch holds finite floating"),
        (lambda: StampTrigger(torch.rand(3, 4, 4), side=0), "side is an integer of at least 1"),
        (lambda: StampTrigger(None), r"patch is a tensor of shape \(3, S, S\), got NoneType"),  # type: ignore[arg-type]
        (lambda: AdditiveTrigger(torch.rand(1, 8, 8)), r"delta is .*, got \(1, 8, 8\)"),
        (lambda: WarpTrigger(torch.rand(1, 4, 4), 1.0), r"control is .*, got \(1, 4, 4\)"),
        (lambda: WarpTrigger(torch.rand(2, 4, 4), math.nan), "strength is positive, got nan"),
        (lambda: WarpTrigger.draw(4, 1.0, "x"), "seed is an integer, got 'x'"),  # type: ignore[arg-type]
        (lambda: HiddenTrigger([0, 1], 2, 2.0, {}), r"strength is a share in \(0, 1\], got 2"),
        (lambda: HiddenTrigger([0, 1], 2, 0.1, {})(_images(16)), "weights do not fit the hiding"),
        (lambda: CodeTrigger([0, 1, 2, 3, 4], "x"), "corner is 0 to 220 .* got 'x'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_wrong_state_is_named(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
