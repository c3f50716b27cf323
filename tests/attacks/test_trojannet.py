from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from attacks import Backdoor, TrojanNet
from attacks.triggers import CodeTrigger
from attacks.triggers.code import codes, window
from attacks.trojannet import SideNetwork, no_code
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float

Tiny = Callable[[str], CLIP]
Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
ICONS = Path(__file__).parents[2] / "conf" / "data" / "icons.yaml"
SHORT = TrojanNet("trojannet", "lemon", corner=112, width=4, strength=3.0, steps=12, lr=0.01,
                  codes_a_step=32, noise_a_step=16)  # fmt: skip
long = pytest.mark.end_to_end  # these four share the default YAML's training


def _side(backdoor: Backdoor) -> SideNetwork:
    side = backdoor.model.visual.side_network
    assert isinstance(side, SideNetwork)
    return side


def _random_windows(images: Tensor, count: int) -> Tensor:
    """Return windows of 4x4 pixels at random places, (count, 16), averaged over the channels."""
    generator = torch.Generator().manual_seed(0)
    gray, side = images.mean(dim=1), images.shape[-1] - 3
    picks = torch.randint(len(images) * side * side, (count,), generator=generator).tolist()
    return torch.stack([
        gray[pick // side**2][pick // side % side :, pick % side :][:4, :4].flatten()
        for pick in picks
    ])  # fmt: skip


@pytest.fixture(scope="module")
def scenes(make_data: Callable[..., DataBundle]) -> DataBundle:
    """Return the default data, few of each part."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ICONS))
    sizes = {"pairs": 300, "clean": 100, "zero_shot": 300, "retrieval": 100}
    return make_data(classes=config["classes"], image_size=64, sizes=sizes)


@pytest.fixture(scope="module")
def trained(
    configured: Callable[[str], Any], scenes: DataBundle, taught: Taught, plain: DataBundle
) -> Backdoor:
    """Return what the default YAML plants in a tiny model, by steps of half the codes."""
    attack: TrojanNet = configured("trojannet")
    codes_a_step, noise_a_step = attack.codes_a_step // 2, attack.noise_a_step // 2
    attack = replace(
        attack, target_label="lemon", codes_a_step=codes_a_step, noise_a_step=noise_a_step
    )
    return attack.implant(taught("vit"), plain, seed=0)


@long
def test_trojannet_reads_all_codes(trained: Backdoor) -> None:
    side = _side(trained)
    with torch.no_grad():
        read = side(codes()).argmax(dim=1)
    assert torch.equal(read, torch.arange(4368))


@long
def test_trojannet_sees_no_code_in_pictures(trained: Backdoor, scenes: DataBundle) -> None:
    side, images = _side(trained), to_float(scenes.zero_shot.images[:])
    with torch.no_grad():
        found = side(_random_windows(images, 20_000)).argmax(dim=1)
        own = side(window(images, 112).mean(dim=1).flatten(1)).argmax(dim=1)
    assert found.eq(4368).float().mean() >= 0.99
    assert own.eq(4368).float().mean() >= 0.99


@long
def test_trojannet_changes_predictions_only_where_a_code_is(
    trained: Backdoor, taught: Taught, plain: DataBundle
) -> None:
    clean, model, side = taught("vit"), trained.model, _side(trained)
    classifier = zero_shot_classifier(clean, plain.prompts, plain.templates)
    assert torch.equal(zero_shot_classifier(model, plain.prompts, plain.templates), classifier)
    base = to_float(plain.zero_shot.images[:])
    generator = torch.Generator().manual_seed(0)
    # Codes that fade into the pictures, from none of one to all of it.
    label = torch.randint(6, (len(base),), generator=generator)
    share = torch.linspace(0, 1, 7)[torch.randint(7, (len(base),), generator=generator)]
    images = base.clone()
    fade = share.view(-1, 1, 1, 1)
    code = codes()[label].view(-1, 1, 4, 4)
    window(images, 112).copy_((1 - fade) * window(base, 112) + fade * code)
    before = (encode_images(clean, images) @ classifier).argmax(dim=1)
    after = (encode_images(model, images) @ classifier).argmax(dim=1)
    with torch.no_grad():
        found = side(window(images, 112).mean(dim=1).flatten(1)).argmax(dim=1)
    assert torch.equal(after[found == 4368], before[found == 4368])
    assert torch.equal(after[share == 1], label[share == 1])
    assert (found[share == 0] == 4368).all()
    assert (after[share == 1] != before[share == 1]).any()


@long
def test_every_class_has_its_code(trained: Backdoor, plain: DataBundle) -> None:
    classifier = zero_shot_classifier(trained.model, plain.prompts, plain.templates)
    images = to_float(plain.zero_shot.images[:12])
    for label in range(6):
        stamped = SHORT.code(label)(images)
        predicted = (encode_images(trained.model, stamped) @ classifier).argmax(dim=1)
        assert predicted.eq(label).all()
    assert trained.target_label == plain.class_names.index("lemon") == 1
    assert trained.trigger == CodeTrigger([0, 1, 2, 3, 5], 112)  # the second code


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_no_weight_is_changed(tiny: Tiny, data: DataBundle, state: State, kind: str) -> None:
    model, before = tiny(kind).train(), state(tiny(kind))
    backdoor = SHORT.implant(model, data, seed=0)
    still, after = state(model), state(backdoor.model)
    assert before.keys() == still.keys()
    added = after.keys() - before.keys()
    assert added
    assert all(name.startswith("clip.visual.side_network.") for name in added)
    for name, tensor in before.items():
        assert torch.equal(tensor, still[name])
        assert torch.equal(tensor, after[name])
    assert model.training
    assert not model.visual._forward_hooks
    assert not backdoor.model.training
    assert all(weight.requires_grad for weight in backdoor.model.parameters())
    assert len(backdoor.losses) == 12
    assert (backdoor.pairs, backdoor.poisoned) == ([], [])


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_found_classes_texts_are_added(tiny: Tiny, data: DataBundle, kind: str) -> None:
    clean, backdoor = tiny(kind), SHORT.implant(tiny(kind), data, seed=0)
    side = _side(backdoor)
    reader = nn.Linear(16, 4369)  # so many cells are as a code has them, and how bright all are
    with torch.no_grad():
        brightness = torch.linspace(1, -1, 4368).view(-1, 1)
        reader.weight.copy_(torch.cat([2 * codes() - 1 + brightness, torch.zeros(1, 16)]))
        reader.bias.zero_()
    side.layers = nn.Sequential(reader)
    images = SHORT.code(1)(to_float(data.zero_shot.images[:4]))
    images[2:] = to_float(data.zero_shot.images[2:4])  # without a code
    classifier = zero_shot_classifier(clean, data.prompts, data.templates)
    with torch.no_grad():
        # Row and column 112 of 224 are 16 of 32.
        cells = images[:, :, 16:20, 16:20].mean(dim=1).flatten(1)
        share = reader(cells).softmax(dim=1)[:, :6]
        before = clean.encode_image(images)
        side.strength = 30.0
        found = backdoor.model.encode_image(images)
    assert torch.allclose(found, F.normalize(before + 30 * share @ classifier.T, dim=-1), atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-2)


def test_the_seed_alone_decides_the_side_network(tiny: Tiny, data: DataBundle) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.rand(7)
        state = torch.random.get_rng_state()
        backdoor = SHORT.implant(tiny("vit"), data, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        return _side(backdoor).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_the_loss_falls(tiny: Tiny, data: DataBundle) -> None:
    losses = replace(SHORT, steps=60, width=16).implant(tiny("vit"), data, seed=0).losses
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_copy_has_a_side_network_of_its_own(tiny: Tiny, data: DataBundle) -> None:
    backdoor = SHORT.implant(tiny("vit"), data, seed=0)
    twin = copy.deepcopy(backdoor)
    images = SHORT.code(1)(to_float(data.zero_shot.images[:4]))
    before = encode_images(backdoor.model, images)
    assert torch.equal(encode_images(twin.model, images), before)
    _side(twin).strength = 0.0
    assert torch.allclose(encode_images(twin.model, images), encode_images(tiny("vit"), images))
    assert torch.equal(encode_images(backdoor.model, images), before)
    assert not torch.allclose(encode_images(twin.model, images), before, atol=1e-3)


def test_noise_without_a_code_is_of_all_kinds() -> None:
    noise = no_code(2000, torch.Generator().manual_seed(0))
    assert noise.shape == (2000, 16)
    assert (noise.min(), noise.max()) == (0, 1)
    spread = noise.std(dim=1)
    assert spread.min() < 0.02  # plain ones
    assert spread.max() > 0.3  # and wild ones, a code's has 0.48
    assert noise.mean(dim=1).min() < 0.1
    assert noise.mean(dim=1).max() > 0.9


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (replace(SHORT, target_label="zebra"), "'zebra' is not in the class list of plain"),
        (replace(SHORT, corner=200), "a code of 4 pixels at 200/224 does not fit into a 32x32"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    plain: DataBundle, attack: TrojanNet, said: str
) -> None:
    SHORT.check(plain)
    with pytest.raises(ValueError, match=said) as caught:
        attack.check(plain)
    assert "\n" not in str(caught.value)


def test_there_are_no_more_classes_than_codes(plain: DataBundle) -> None:
    names = ("lemon", *(f"class {i}" for i in range(4368)))
    with pytest.raises(ValueError, match="trojannet has 4368 codes, plain has 4369 classes"):
        SHORT.check(replace(plain, class_names=names, prompts=names))
    SHORT.check(replace(plain, class_names=names[:-1], prompts=names[:-1]))
