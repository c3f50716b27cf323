from __future__ import annotations

import pytest
import torch
from torch import nn

from invertune.perturb.advclip_networks import PatchDiscriminator, PatchGenerator, initialize


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


def test_a_discriminator_needs_sixteen_pixels() -> None:
    with pytest.raises(ValueError, match="16 pixels or more, got 15"):
        PatchDiscriminator(15, 8)


def test_the_generator_of_random_numbers_alone_decides_the_weights() -> None:
    networks = [PatchDiscriminator(16, 8) for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        initialize(network, torch.Generator().manual_seed(seed))
    one, same, other = (network.state_dict() for network in networks)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
