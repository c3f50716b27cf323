"""The networks of AdvCLIP: what makes the patch, and what tells it from noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NOISE = 100  # length of a row of z


class PatchGenerator(nn.Module):
    """Draws one pattern from fixed noise, (batch_size, 100, 1, 1), through 4, 8, 16 and 32 pixels.

    Args:
        side: Side of the pattern, in pixels.
        channels: Width of the first layer; every next one has half as many.
        batch_size: Rows of noise, each of which draws a pattern; a last layer mixes them to one.
    """

    def __init__(self, side: int, channels: int, batch_size: int) -> None:
        super().__init__()
        self.side = side
        layers: list[nn.Module] = []
        before, stride, padding = NOISE, 1, 0
        for width in _widths(channels):
            layers += [nn.ConvTranspose2d(before, width, 4, stride, padding)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            before, stride, padding = width, 2, 1
        self.hidden = nn.Sequential(*layers)
        # The smallest stride that reaches the side. Where the surplus is odd, one row and one
        # column too many are left, and forward cuts them off.
        stride = max(1, math.ceil((side - 4) / 31))
        self.out = nn.ConvTranspose2d(before, 3, 4, stride, (31 * stride + 4 - side) // 2)
        self.mix = nn.Conv2d(batch_size, 1, 3, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Return a pattern in normalized units, (3, side, side)."""
        drawn = torch.tanh(self.out(self.hidden(noise)))[..., : self.side, : self.side]
        mixed: Tensor = self.mix(drawn.transpose(0, 1))  # the colors are the batch here
        return mixed[:, 0]


class PatchDiscriminator(nn.Module):
    """Tells clean images from perturbed ones: four layers that halve the side, then one number.

    Args:
        side: Side of the images, in pixels.
        channels: Width of the last layer; every one before has half as many.

    Raises:
        ValueError: If there are too few pixels to halve them four times.
    """

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        if side < 16:
            raise ValueError(f"the discriminator needs images of 16 pixels or more, got {side}")
        layers: list[nn.Module] = []
        before = 3
        for i, width in enumerate(reversed(_widths(channels))):
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1))
            if i > 0:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            before = width
        layers += [nn.Conv2d(before, 1, side // 16), nn.Sigmoid(), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the probability that each of the normalized images, (B, 3, H, W), is clean."""
        decisions: Tensor = self.layers(images)
        return decisions


def _widths(channels: int) -> list[int]:
    return [channels // 2**i for i in range(4)]


@torch.no_grad()
def initialize(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all convolutions from N(0, 0.02^2), without bias; BatchNorm starts as the identity."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.weight.normal_(0, 0.02, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
