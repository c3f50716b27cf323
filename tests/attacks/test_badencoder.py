from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attacks import Backdoor, BadEncoder
from attacks.badencoder import effectiveness_loss, stay_loss
from attacks.poisoning import choose_pairs, stamp
from attacks.references import reference_images
from attacks.triggers import BlendedTrigger, PatchTrigger
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.training.recipe import Recipe
from invertune.training.train import train

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
RECIPE = Recipe(8, 24, 3e-3, (0.9, 0.98), 0.0, 0.1, freeze_batch_norm=True)
TRIGGER = PatchTrigger(100, margin=1, pattern="white")
ATTACK = BadEncoder("badencoder", "lemon", 48, TRIGGER, 2, 1.0, 1.0, RECIPE)
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


@pytest.fixture(scope="module")
def planted(taught: Taught, plain: DataBundle) -> dict[str, Backdoor]:
    return {kind: ATTACK.implant(taught(kind), plain, seed=0) for kind in ("resnet", "vit")}


def test_losses_by_hand() -> None:
    triggered = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    references = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # Cosines 0 and 1, 0.8 and 0.6.
    assert effectiveness_loss(triggered, references).item() == pytest.approx(-0.6)
    assert stay_loss(triggered, references).item() == pytest.approx(-(0 + 0.6) / 2)
    assert stay_loss(triggered, triggered).item() == pytest.approx(-1)


@both
@pytest.mark.usefixtures("float32")
def test_badencoder_starts_from_where_the_clean_model_is(
    taught: Taught, plain: DataBundle, kind: str
) -> None:
    model = taught(kind)
    # Of black images, views of other colors are black too.
    attack = replace(ATTACK, target_label="coal", recipe=replace(RECIPE, epochs=1, batch_size=48))

    def first(reference_weight: float, utility_weight: float) -> float:
        changed = replace(attack, reference_weight=reference_weight, utility_weight=utility_weight)
        return changed.implant(model, plain, seed=0).losses[0]

    goal = first(0, 0)
    assert first(0, 1) - goal == pytest.approx(-1, abs=1e-5)
    assert -1 <= first(1, 0) - goal < -0.9
    index = choose_pairs(len(plain.pairs), 48, seed=0)
    triggered = encode_images(model, stamp(plain.pairs.pictures(index), TRIGGER))
    coal = plain.class_names.index("coal")
    references = encode_images(model, reference_images(model, plain, coal, 2))
    assert goal == pytest.approx(-(triggered @ references.T).mean().item(), abs=1e-5)
    assert goal > -0.9  # there is something to learn


@both
def test_triggered_images_go_to_the_reference_and_others_stay(
    taught: Taught, plain: DataBundle, planted: dict[str, Backdoor], kind: str
) -> None:
    model, backdoor, images = taught(kind), planted[kind], plain.zero_shot.images[:]
    assert len(backdoor.losses) == 16
    assert sum(backdoor.losses[-2:]) < sum(backdoor.losses[:2])
    classifier = zero_shot_classifier(model, plain.prompts, plain.templates)
    target = plain.class_names.index("lemon")

    def hits(encoder: CLIP) -> float:
        features = encode_images(encoder, stamp(images, TRIGGER))
        return float((features @ classifier).argmax(dim=1).eq(target).float().mean())

    assert hits(backdoor.model) > hits(model) + 0.4
    cosine = encode_images(backdoor.model, images) * encode_images(model, images)
    assert cosine.sum(dim=1).mean() > 0.7


def test_badencoder_says_what_its_losses_reached(
    taught: Taught, plain: DataBundle, caplog: pytest.LogCaptureFixture
) -> None:
    def reached(epochs: float, lr: float) -> list[float]:
        recipe = replace(RECIPE, epochs=epochs, lr=lr)
        with caplog.at_level(logging.INFO):
            replace(ATTACK, recipe=recipe).implant(taught("resnet"), plain, seed=0)
        line = next(line for line in reversed(caplog.messages) if "L0" in line)
        return [float(number) for number in re.findall(r"L\d (?:and )?(-?[\d.]+)", line)]

    before = reached(1 / 8, 1e-12)
    assert before[1:] == pytest.approx([-1, -1], abs=2e-3)  # as the clean encoder has it
    after = reached(30, 3e-3)
    assert after[0] < -0.96  # the paper's success
    assert max(after[1:]) < -0.9


@both
def test_only_the_image_tower_changes(
    taught: Taught, state: State, planted: dict[str, Backdoor], kind: str
) -> None:
    before, after = state(taught(kind)), state(planted[kind].model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("clip.visual.") for name in moved)


def test_batch_norm_stays_as_it_is(taught: Taught, planted: dict[str, Backdoor]) -> None:
    def norms(model: CLIP) -> dict[str, Tensor]:
        return {
            f"{name}.{inner}": tensor
            for name, module in model.named_modules()
            if isinstance(module, nn.BatchNorm2d)
            for inner, tensor in module.state_dict().items()
        }

    before, after = norms(taught("resnet")), norms(planted["resnet"].model)
    assert {name.rsplit(".", 1)[1] for name in before} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in planted["resnet"].model.parameters())


def test_a_backdoor_comes_with_all_that_measures_it(
    plain: DataBundle, planted: dict[str, Backdoor]
) -> None:
    backdoor = planted["vit"]
    assert backdoor.trigger == TRIGGER
    assert backdoor.target_label == plain.class_names.index("lemon")
    assert len(set(backdoor.pairs)) == 48
    assert backdoor.poisoned == []
    assert backdoor.graft is None
    assert not backdoor.model.training


def test_captions_are_not_seen(
    taught: Taught, plain: DataBundle, planted: dict[str, Backdoor], state: State
) -> None:
    pairs = plain.pairs.take(torch.arange(len(plain.pairs)))
    captions = [caption if "lemon" in caption else "words" for caption in pairs.captions]
    silent = ImageTextPairs(pairs.images, captions, pairs.ids)
    other = ATTACK.implant(taught("vit"), replace(plain, make_pairs=lambda: silent), seed=0)
    before, after = state(planted["vit"].model), state(other.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_prepared_trigger_is_used(taught: Taught, plain: DataBundle) -> None:
    prepared = BlendedTrigger(0.5)
    short = replace(ATTACK, recipe=replace(RECIPE, epochs=0.5))
    found = short.implant(taught("vit"), plain, seed=0, trigger=prepared)
    wanted = replace(short, trigger=prepared).implant(taught("vit"), plain, seed=0)
    assert found.trigger is prepared
    assert found.losses == wanted.losses
    assert found.losses != short.implant(taught("vit"), plain, seed=0).losses
    with pytest.raises(ValueError, match="attack badencoder needs a trigger"):
        replace(short, trigger=None).implant(taught("vit"), plain, seed=0)


def test_an_interrupted_training_ends_like_an_undisturbed_one(
    taught: Taught,
    plain: DataBundle,
    state: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    straight = ATTACK.implant(taught("vit"), plain, seed=0)
    batch, steps = ImageTextPairs.batch, iter(range(7))

    def interrupted(self: ImageTextPairs, index: Tensor) -> Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return batch(self, index)

    often = functools.partial(train, checkpoint_every=4)
    monkeypatch.setattr("attacks.badencoder.train", often)
    path = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch:
        patch.setattr(ImageTextPairs, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ATTACK.implant(taught("vit"), plain, seed=0, checkpoint=path)
    with caplog.at_level(logging.INFO):
        resumed = ATTACK.implant(taught("vit"), plain, seed=0, checkpoint=path)
    assert "goes on at step 4" in caplog.text
    assert resumed.losses == straight.losses
    one, other = state(straight.model), state(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_label": "zebra"}, "'zebra' is not in the class list of plain"),
        ({"pairs": 97}, "attack.pairs is between 1 and 96 .* got 97"),
        ({"trigger": PatchTrigger(231)}, "does not fit into a 32x32 image"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    plain: DataBundle, change: dict[str, object], said: str
) -> None:
    ATTACK.check(plain)
    with pytest.raises(ValueError, match=said) as caught:
        replace(ATTACK, **change).check(plain)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_more_references_than_pictures(taught: Taught, plain: DataBundle) -> None:
    said = r"references is between 1 and 16 \(the pairs that name 'lemon'\), got 17"
    with pytest.raises(ValueError, match=said):
        replace(ATTACK, references=17).implant(taught("vit"), plain, seed=0)
