from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attacks import GhostEncoder
from attacks.ghostencoder import HidingTraining, Reader, straight_through
from attacks.triggers import HiddenTrigger, PatchTrigger, trigger_tensors
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.training.recipe import Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
HIDE = HidingTraining(bits=4, width=2, strength=0.2, images=24, steps=3, batch_size=4, lr=1e-2,
                      similarity=5.0)  # fmt: skip
ATTACK = GhostEncoder(
    "ghostencoder", "lemon", 48, None, 2, 1.0, 1.0, Recipe(4, 24, 3e-3, (0.9, 0.98), 0.0, 0.1),
    hide=HIDE,
)  # fmt: skip


def _equal(one: HiddenTrigger, other: HiddenTrigger) -> bool:
    tensors, others = trigger_tensors(one), trigger_tensors(other)
    return list(one.secret) == list(other.secret) and all(
        torch.equal(tensors[name], others[name]) for name in tensors
    )


def test_rounding_lets_the_gradient_through() -> None:
    images = torch.tensor([0.0, 0.3, 0.5, 1.0], requires_grad=True)
    rounded = straight_through(images)
    assert rounded.mul(255).tolist() == pytest.approx([0, 76, 128, 255])
    (rounded * torch.arange(4)).sum().backward()
    assert images.grad is not None
    assert images.grad.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("side", [32, 64])
def test_a_reader_reads_images_of_any_size(side: int) -> None:
    assert Reader(bits=5, width=2)(torch.rand(3, 3, side, side)).shape == (3, 5)


def test_the_trigger_depends_on_the_data_and_its_own_seed_alone(
    taught: Taught, plain: DataBundle, data: DataBundle
) -> None:
    trigger = ATTACK.prepare(None, plain, seed=0)
    assert isinstance(trigger, HiddenTrigger)
    torch.rand(10)
    implanted = [
        ATTACK.implant(taught("vit"), plain, seed=0),
        replace(ATTACK, target_label="coal").implant(taught("vit"), plain, seed=0),
        ATTACK.implant(taught("vit"), plain, seed=1),
        ATTACK.implant(taught("resnet"), plain, seed=0),
    ]
    for backdoor in implanted:
        assert isinstance(backdoor.trigger, HiddenTrigger)
        assert _equal(backdoor.trigger, trigger)
    assert not _equal(HIDE(data), trigger)
    assert not _equal(replace(HIDE, seed=1)(plain), trigger)


def test_the_network_learns_to_hide_and_then_to_stay_alike(
    plain: DataBundle, caplog: pytest.LogCaptureFixture
) -> None:
    training = HidingTraining(bits=2, width=4, strength=0.5, images=48, steps=200, batch_size=16,
                              lr=3e-3, similarity=0.0)  # fmt: skip
    accuracies, changes = [], []
    images = to_float(plain.zero_shot.images[:12])
    for similarity in (0.0, 10.0):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            trigger = replace(training, similarity=similarity)(plain)
        said = re.search(r"hide: ([\d.]+) of the bits", caplog.text)
        assert said is not None
        accuracies.append(float(said[1]))
        changes.append(float((trigger(images) - images).square().mean().sqrt()))
    assert min(accuracies) > 0.9  # of random secrets; by chance 0.5
    assert 1 / 255 < changes[1] < 0.8 * changes[0]


def test_only_the_image_tower_changes_and_the_loss_falls(
    taught: Taught, plain: DataBundle, state: State
) -> None:
    model = taught("vit")
    backdoor = ATTACK.implant(model, plain, seed=0)
    before, still, after = state(taught("vit")), state(model), state(backdoor.model)
    assert all(torch.equal(before[name], still[name]) for name in before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("clip.visual.") for name in moved)
    assert sum(backdoor.losses[-2:]) < sum(backdoor.losses[:2])
    assert backdoor.target_label == plain.class_names.index("lemon")


def test_a_prepared_trigger_is_used(taught: Taught, plain: DataBundle) -> None:
    class Never(HidingTraining):
        def __call__(self, data: DataBundle) -> HiddenTrigger:
            raise AssertionError("the trigger is there already")

    prepared = PatchTrigger(100, pattern="white")
    attack = replace(ATTACK, hide=Never(**vars(HIDE)))
    found = attack.implant(taught("vit"), plain, seed=0, trigger=prepared)
    assert found.trigger is prepared
    assert found.losses != ATTACK.implant(taught("vit"), plain, seed=0).losses


def test_sides_that_are_no_multiples_of_16_are_found_before_training(
    make_data: Callable[..., DataBundle],
) -> None:
    with pytest.raises(ValueError, match="sides that are multiples of 16, got 40x40"):
        replace(HIDE, steps=10**9)(make_data(image_size=40))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_label": "zebra"}, "'zebra' is not in the class list of plain"),
        ({"pairs": 97}, "attack.pairs is between 1 and 96 .* got 97"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    plain: DataBundle, change: dict[str, object], said: str
) -> None:
    ATTACK.check(plain)
    with pytest.raises(ValueError, match=said):
        replace(ATTACK, **change).check(plain)  # type: ignore[arg-type]
