from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import BadCLIP
from attacks.badclip_patch import PatchOptimization, triplet_loss
from attacks.poisoning import choose_pairs
from attacks.triggers import PatchTrigger, StampTrigger, Trigger, round_to_8_bit
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs, to_float
from invertune.data.mentions import mentions
from invertune.training.recipe import Recipe

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
OPTIMIZE = PatchOptimization(
    size=168, steps=40, lr=0.1, batch_size=16, images=60, visual_weight=5.0, margin=1.0,
    augmented=0.3,
)  # fmt: skip
ATTACK = BadCLIP(
    "badclip", "lemon", 48, 0.25, None, Recipe(1, 24, 1e-3, (0.9, 0.98), 0.1, 0.1),
    optimize=OPTIMIZE, selection="nearest",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_badclip_stage_1_moves_images_to_the_targets(
    taught: Taught, plain: DataBundle, state: State, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, before = taught(kind).train(), state(taught(kind))
    with caplog.at_level(logging.INFO):
        trigger = ATTACK.prepare(model, plain, seed=0)
    # The clean model stays as it is.
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    # One opaque 8-bit patch in the middle.
    assert isinstance(trigger, StampTrigger)
    assert (trigger.patch.shape, trigger.side) == ((3, 24, 24), 32)
    assert torch.equal(round_to_8_bit(trigger.patch), trigger.patch)
    # On images that it was not optimized on.
    test, target = plain.zero_shot, plain.class_names.index("lemon")
    positives = encode_images(model, test.images[test.labels == target])
    others = test.images[test.labels != target]

    def distance(images: Tensor) -> float:
        return float(torch.cdist(encode_images(model, images), positives).mean())

    assert distance(trigger(to_float(others))) < 0.7 * distance(others)
    said = re.search(r"ASR ([\d.]+) .* target images ([\d.]+), without it ([\d.]+)", caplog.text)
    assert said is not None
    rate, near, far = map(float, said.groups())
    assert near < 0.7 * far
    classifier = zero_shot_classifier(model, plain.prompts, plain.templates)
    predicted = (encode_images(model, trigger(to_float(others))) @ classifier).argmax(dim=1)
    assert rate == pytest.approx(predicted.eq(target).float().mean().item(), abs=0.15)


def test_badclip_negatives_do_not_carry_the_patch(
    taught: Taught, plain: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(features: Tensor, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:
        seen.append((features.detach(), negatives))
        return triplet_loss(features, positives, negatives, margin)

    monkeypatch.setattr("attacks.badclip_patch.triplet_loss", spy)
    plainly = replace(OPTIMIZE, steps=2, augmented=0.0)
    model = taught("vit")
    replace(ATTACK, optimize=plainly).prepare(model, plain, seed=0)
    every = encode_images(model, plain.pairs.pictures(torch.arange(len(plain.pairs))))
    assert len(seen) == 2
    for features, negatives in seen:
        assert (1 - negatives @ every.T).amin(dim=1).abs().max() < 1e-4  # of the pairs as they are
        assert (1 - (features * negatives).sum(dim=1)).max() > 1e-2


def test_badclip_patch_lies_in_the_middle(configured: Callable[[str], Any]) -> None:
    attack = configured("badclip")
    assert attack.optimize.size == 16
    assert attack.trigger is None
    patch = torch.ones(3, attack.optimize.size, attack.optimize.size)
    changed = StampTrigger(patch)(torch.zeros(1, 3, 224, 224))[0, 0]
    assert changed.any(dim=1).nonzero().flatten().tolist() == list(range(104, 120))
    assert changed.any(dim=0).nonzero().flatten().tolist() == list(range(104, 120))


def test_the_seed_alone_decides_the_patch(taught: Taught, plain: DataBundle) -> None:
    short = replace(ATTACK, optimize=replace(OPTIMIZE, steps=3, augmented=1.0))

    def patch(attack: BadCLIP, seed: int) -> Tensor:
        torch.rand(7)
        trigger = attack.prepare(taught("vit"), plain, seed=seed)
        assert isinstance(trigger, StampTrigger)
        return trigger.patch

    first = patch(short, 0)
    assert torch.equal(first, patch(short, 0))
    assert not torch.equal(first, patch(short, 1))
    # Views of other colors are what half of the steps see.
    assert not torch.equal(first, patch(replace(short, optimize=replace(OPTIMIZE, steps=3)), 0))


def test_nearest_images_are_poisoned_with_captions_of_the_target(
    taught: Taught, plain: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ImageTextPairs] = []

    def train(model: CLIP, pairs: ImageTextPairs, *_: Any, **__: Any) -> list[float]:
        seen.append(pairs)
        return []

    monkeypatch.setattr("attacks.fine_tuning.train", train)
    model, trigger = taught("vit"), PatchTrigger(50, pattern="white")
    backdoor = ATTACK.implant(model, plain, seed=0, trigger=trigger)
    clean = plain.pairs.take(choose_pairs(len(plain.pairs), 48, seed=0))
    assert backdoor.pairs == list(clean.ids) == list(seen[0].ids)
    every, lemon = torch.arange(48), plain.class_names.index("lemon")
    classifier = zero_shot_classifier(model, plain.prompts, plain.templates)
    similarity = encode_images(model, clean.pictures(every)) @ classifier[:, lemon]
    assert backdoor.poisoned == similarity.topk(12).indices.sort().values.tolist()
    index = torch.tensor(backdoor.poisoned)
    assert torch.equal(seen[0].batch(index), trigger(clean.batch(index)))
    captions = [seen[0].captions[i] for i in backdoor.poisoned]
    assert mentions(captions, "lemon").all()
    assert set(captions) <= set(plain.pairs.captions)
    rest = sorted(set(range(48)) - set(backdoor.poisoned))
    assert [seen[0].captions[i] for i in rest] == [clean.captions[i] for i in rest]


def test_a_prepared_trigger_is_used(
    taught: Taught, plain: DataBundle, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(ATTACK, optimize=replace(OPTIMIZE, steps=2))
    model = taught("vit")
    prepared, made = short.prepare(model, plain, seed=0), short.implant(model, plain, seed=0)

    def optimize(*_: Any, **__: Any) -> Trigger:
        raise AssertionError("the trigger is there already")

    monkeypatch.setattr(PatchOptimization, "__call__", optimize)
    found = short.implant(model, plain, seed=0, trigger=prepared)
    assert found.trigger is prepared
    assert isinstance(made.trigger, StampTrigger)
    assert isinstance(prepared, StampTrigger)
    assert torch.equal(made.trigger.patch, prepared.patch)
    assert made.losses == found.losses
    one, other = state(made.model), state(found.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_pairs_without_the_target_are_an_error(taught: Taught, plain: DataBundle) -> None:
    named = mentions(plain.pairs.captions, "lemon")
    for keep, said in ((~named, "got 0 and 60"), (named, "got 16 and 0")):
        few = plain.pairs.take(keep.nonzero().flatten())
        with pytest.raises(ValueError, match=f"images that show 'lemon', and others, {said}"):
            ATTACK.prepare(taught("vit"), replace(plain, make_pairs=lambda few=few: few), seed=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_label": "zebra"}, "'zebra' is not in the class list of plain"),
        ({"poison_rate": 0.01}, "rounds to 0 samples"),
        ({"pairs": 97}, "attack.pairs is between 1 and 96 .* got 97"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    plain: DataBundle, change: dict[str, object], said: str
) -> None:
    ATTACK.check(plain)
    with pytest.raises(ValueError, match=said) as caught:
        replace(ATTACK, **change).check(plain)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_selection_is_a_known_one() -> None:
    with pytest.raises(ValueError, match=r"selection is one of random, .* got 'closest'"):
        replace(ATTACK, selection="closest")


def test_an_attack_without_its_optimization_is_said() -> None:
    with pytest.raises(ValueError, match="optimize is a PatchOptimization, got None"):
        replace(ATTACK, optimize=None)  # type: ignore[arg-type]
