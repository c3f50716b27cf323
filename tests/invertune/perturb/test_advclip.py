from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float
from invertune.finite import NonFiniteLossError
from invertune.identify import TargetIdentification
from invertune.perturb.advclip import (
    AdvCLIPGenerator,
    adversarial_loss,
    gan_loss,
    info_nce,
    nearest_texts,
    reconstruction_loss,
    topology_criterion,
    topology_graph,
    topology_loss,
)
from invertune.perturb.advclip_networks import PatchDiscriminator, PatchGenerator
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded

CONF = Path(__file__).parents[2] / "conf"


def _generator(**changes: Any) -> AdvCLIPGenerator:
    small = AdvCLIPGenerator(
        name="advclip", share=0.25, corner=0.25, channels=8, alpha=10.0, beta=5.0, gamma=5.0,
        delta=1.0, temperature=0.1, lr=2e-3, betas=(0.5, 0.999), batch_size=8, steps=3, clip=0.01,
        starts=1, clean_gain=1.0,
    )  # fmt: skip
    return replace(small, **changes)


def _perturb(
    model: CLIP, clean: CleanData, generator: AdvCLIPGenerator, seed: int = 0, start: int = 0
) -> InvertedTrigger:
    features = encode_images(model, clean.images)
    classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
    return generator.perturb(
        model, clean.images, features, classifier=classifier, seed=seed, start=start
    )


def _composed() -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["defense=invertune_advclip"])
    defense = OmegaConf.to_container(config.defense, resolve=True)
    assert isinstance(defense, dict)
    return {str(key): value for key, value in defense.items()}


def test_info_nce_of_the_same_orthonormal_features() -> None:
    wanted = -math.log(math.exp(10) / (math.exp(10) + 3))
    assert info_nce(torch.eye(4), torch.eye(4), 0.1).item() == pytest.approx(wanted, abs=1e-6)
    # Lengths do not matter; where all keys are alike, finding the right one is a guess.
    longer = info_nce(3 * torch.eye(4), 2 * torch.eye(4), 0.1)
    assert longer.item() == pytest.approx(wanted, abs=1e-6)
    alike = torch.ones(4, 4)
    assert info_nce(torch.eye(4), alike, 0.1).item() == pytest.approx(math.log(4))


def test_the_graph_by_hand() -> None:
    # All others are equally near: each counts as the nearest, as near as the feature itself.
    assert torch.allclose(topology_graph(torch.eye(3)), torch.full((3, 3), 1 / 3))
    # Two features in one place, one at a right angle: similarities 1, 1, 0, scaled 1, 1, 0.5.
    graph = topology_graph(torch.eye(2)[[0, 0, 1]])
    row = [0.4, 0.4, 0.2]
    assert torch.allclose(graph, torch.tensor([row, row, [1 / 3] * 3]))


def test_the_criterion_by_hand() -> None:
    spread, paired = torch.eye(3), torch.eye(3)[[0, 0, 1]]
    assert topology_criterion(spread, spread).item() == 0
    row = torch.tensor([0.4, 0.4, 0.2])
    third = torch.full((3,), 1 / 3)
    forward = (row * (row / third).log() + (1 - row) * ((1 - row) / (1 - third)).log()).sum()
    back = (third * (third / row).log() + (1 - third) * ((1 - third) / (1 - row)).log()).sum()
    assert topology_criterion(spread, paired).item() == pytest.approx(2 * forward.item(), abs=1e-5)
    assert topology_criterion(paired, spread).item() == pytest.approx(2 * back.item(), abs=1e-5)


def test_the_criterion_sees_neighborhoods_only() -> None:
    generator = torch.Generator().manual_seed(0)
    features, others = torch.randn(2, 6, 5, generator=generator)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    assert topology_criterion(features, others).item() > 0.01
    assert topology_criterion(features, features @ rotation).item() == pytest.approx(0, abs=1e-5)
    turned = topology_criterion(features @ rotation, others @ rotation)
    assert turned.item() == pytest.approx(topology_criterion(features, others).item(), abs=1e-5)


def test_the_sums_weigh_the_texts() -> None:
    clean, perturbed, text = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    first, second = info_nce(clean, perturbed, 0.1), info_nce(perturbed, text, 0.1)
    found = adversarial_loss(clean, perturbed, text, temperature=0.1, beta=5.0)
    assert found.item() == pytest.approx(-(first + 5 * second).item())
    first, second = topology_criterion(clean, perturbed), topology_criterion(perturbed, text)
    found = topology_loss(clean, perturbed, text, gamma=5.0)
    assert found.item() == pytest.approx(-(first + 5 * second).item())


def test_what_the_discriminator_and_the_pixels_cost() -> None:
    decisions = torch.tensor([0.5, 0.25])
    assert gan_loss(decisions, real=True).item() == pytest.approx(math.log(8) / 2)
    assert gan_loss(decisions, real=False).item() == pytest.approx(-math.log(0.5 * 0.75) / 2)
    ones = torch.ones(1, 3, 2, 2)
    assert reconstruction_loss(ones, 3 * ones).item() == 4


def test_the_text_of_an_image_is_the_nearest_prompt() -> None:
    classifier = torch.eye(3)[:, [2, 0]]
    features = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]])
    assert torch.equal(nearest_texts(features, classifier), torch.eye(3)[[0, 2]])


@pytest.mark.parametrize("side", [16, 31, 32, 33, 36, 64, 65, 100, 224, 336])
def test_the_networks_fit_every_side(side: int) -> None:
    pattern = PatchGenerator(side, 8, 2)(torch.zeros(2, 100, 1, 1))
    assert pattern.shape == (3, side, side)
    assert PatchDiscriminator(side, 8)(torch.zeros(2, 3, side, side)).shape == (2,)


@pytest.mark.parametrize(("side", "stride", "padding"), [(224, 8, 14), (64, 2, 1), (32, 1, 1)])
def test_the_last_layer_reaches_the_side(side: int, stride: int, padding: int) -> None:
    out = PatchGenerator(side, 8, 2).out
    assert (out.stride, out.padding) == ((stride, stride), (padding, padding))


def test_the_networks_are_advclips_at_224_pixels() -> None:
    generator, discriminator = PatchGenerator(224, 1024, 16), PatchDiscriminator(224, 1024)
    widths = [m.out_channels for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [1024, 512, 256, 128, 3]
    convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [128, 256, 512, 1024, 1]
    assert convolutions[-1].kernel_size == (14, 14)
    norms = [m.num_features for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [256, 512, 1024]


def test_the_patch_lies_where_advclips_does() -> None:
    (generator,) = instantiate(_composed()["identify"]["generators"], _convert_="all")
    mask = generator.mask(224)
    assert mask.shape == (1, 224, 224)
    assert mask.sum() == 38 * 38
    assert mask[:, 172:210, 172:210].eq(1).all()


def test_only_the_patch_changes(planted: CLIP, colored: CleanData) -> None:
    state = {name: value.clone() for name, value in planted.state_dict().items()}
    trigger = _perturb(planted, colored, _generator())
    assert trigger.form == "advclip"
    assert trigger.pattern.shape == (3, 16, 16)
    assert 0 <= trigger.pattern.min() < trigger.pattern.max() <= 1
    assert not trigger.pattern.requires_grad
    assert not trigger.offset.any()
    images = to_float(colored.images)
    changed = (trigger(images) != images).any(dim=0).any(dim=0)
    box = torch.zeros(16, 16, dtype=torch.bool)
    box[4:12, 4:12] = True
    assert torch.equal(changed, box)
    assert all(torch.equal(state[name], value) for name, value in planted.state_dict().items())
    assert [parameter.requires_grad for parameter in planted.parameters()] == [True, False]
    assert all(parameter.grad is None for parameter in planted.parameters())


def test_seed_and_start_alone_decide(planted: CLIP, colored: CleanData) -> None:
    first = _perturb(planted, colored, _generator())
    torch.rand(10)
    state = torch.get_rng_state()
    again = _perturb(planted, colored, _generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.pattern, again.pattern)
    for seed, start in ((1, 0), (0, 1)):
        other = _perturb(planted, colored, _generator(), seed, start)
        assert not torch.equal(first.pattern, other.pattern)


def test_it_moves_images_further_than_noise_does(planted: CLIP, colored: CleanData) -> None:
    trigger = _perturb(planted, colored, _generator(steps=20))
    noise = torch.rand(3, 16, 16, generator=seeded(0, "noise"))
    clean, images = encode_images(planted, colored.images), to_float(colored.images)

    def cosine(patch: InvertedTrigger) -> Tensor:
        return (encode_images(planted, patch(images)) * clean).sum(dim=-1).mean()

    assert cosine(trigger) < cosine(replace(trigger, pattern=noise)) - 0.005


def test_a_loss_that_is_no_number_names_the_stage(planted: CLIP, colored: CleanData) -> None:
    with pytest.raises(NonFiniteLossError, match="identify: the loss is nan at step 0"):
        _perturb(planted, colored, _generator(alpha=float("nan")))


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"clean_gain is a share in \(0, 1\], got 0"):
        _generator(clean_gain=0)
    with pytest.raises(ValueError, match="channels is a multiple of 8, got 100"):
        _generator(channels=100)
    with pytest.raises(ValueError, match="batch_size is at least 2 images to compare, got 1"):
        _generator(batch_size=1)
    with pytest.raises(ValueError, match="16 pixels or more, got 15"):
        PatchDiscriminator(15, 8)
    with pytest.raises(ValueError, match="does not fit into an image of 16 pixels"):
        _generator(corner=0.9).mask(16)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_yaml_is_the_default_with_another_step_1(
    tiny: Callable[[str], CLIP], data: DataBundle, kind: str
) -> None:
    config = _composed()
    whole = OmegaConf.to_container(OmegaConf.load(CONF / "defense" / "invertune.yaml"))
    assert isinstance(whole, dict)
    assert config["name"] == "invertune_advclip"
    assert {key: config[key] for key in ("invert", "tune")} == {
        key: whole[key] for key in ("invert", "tune")
    }
    identify = instantiate(config["identify"], _convert_="all")
    assert isinstance(identify, TargetIdentification)
    (generator,) = identify.generators
    assert isinstance(generator, AdvCLIPGenerator)
    small = replace(identify, generators=[replace(generator, channels=16, steps=2)], images=10)
    found = small(tiny(kind), data.clean, seed=0)
    (vote,) = found.votes
    assert vote.generator == "advclip"
    assert sum(vote.perturbed_frequency) == pytest.approx(1)
    assert small(tiny(kind), data.clean, seed=0) == found
