"""The residual of GhostEncoder: another one for every image, from a hiding network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.triggers.base import round_to_8_bit
from invertune.clip.weights import fit_errors
from invertune.fields import check_counts, check_shares

_SEED_SIDE = 16
_LEVELS = 4  # times that the U-Net halves the image


class HidingNetwork(nn.Module):
    """A U-Net that hides bits in an image, after StegaStamp (Tancik et al., 2020).

    Args:
        bits: Length of the secret.
        width: Channels of the first level; StegaStamp's network has 32.
        strength: Largest change of a pixel, in units of [0, 1].
    """

    def __init__(self, bits: int, width: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self.secret = nn.Linear(bits, 3 * _SEED_SIDE**2)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 if i == 0 else 2, padding=1)
            for i, (before, after) in enumerate(zip([6, *widths[:-1]], widths, strict=True))
        )
        self.up = nn.ModuleList(
            nn.Conv2d(widths[i] + widths[i - 1], widths[i - 1], 3, padding=1)
            for i in range(_LEVELS, 0, -1)
        )
        self.residual = nn.Conv2d(width + 6, 3, 1)

    def forward(self, images: Tensor, secret: Tensor) -> Tensor:
        """Return images, (B, 3, H, W) in [0, 1], that hide the secret, (B, bits) of 0 and 1."""
        size = images.shape[-2:]
        seed = F.relu(self.secret(secret - 0.5)).view(-1, 3, _SEED_SIDE, _SEED_SIDE)
        both = torch.cat([images - 0.5, F.interpolate(seed, size, mode="nearest")], dim=1)
        skips, x = [], both
        for layer in self.down:
            x = F.relu(layer(x))
            skips.append(x)
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, skip.shape[-2:], mode="nearest")
            x = F.relu(layer(torch.cat([x, skip], dim=1)))
        change = torch.tanh(self.residual(torch.cat([x, both], dim=1)))
        return (images + self.strength * change).clamp(0, 1)


def check_sides(height: int, width: int) -> None:
    """Compare the sides of images with what the network can halve.

    Raises:
        ValueError: If they are no multiples of 16.
    """
    if height % 2**_LEVELS or width % 2**_LEVELS:
        raise ValueError(
            f"a hiding network takes sides that are multiples of {2**_LEVELS}, got {height}x{width}"
        )


@dataclass(frozen=True, eq=False)
class HiddenTrigger:
    """Hide the same secret in every image; the change differs from image to image.

    Attributes:
        secret: Bits.
        width, strength: The network's.
        weights: The network's tensors by name.
    """

    secret: Sequence[int]
    width: int
    strength: float
    weights: Mapping[str, Tensor] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        check_counts(self, "width")
        check_shares(self, "strength", one=True)

    @functools.cached_property
    def network(self) -> HidingNetwork:
        """The hiding network.

        Raises:
            ValueError: If the weights are not those of such a network.
        """
        network = HidingNetwork(len(self.secret), self.width, self.strength)
        differences = fit_errors(dict(self.weights), network.state_dict())
        if differences:
            raise ValueError(f"weights do not fit the hiding network: {'; '.join(differences)}")
        network.load_state_dict(dict(self.weights))
        return network.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return copies of ``images``, (B, 3, H, W) in [0, 1], that hide the secret.

        Raises:
            ValueError: If the sides of the images are no multiples of 16.
        """
        check_sides(*images.shape[-2:])
        secret = torch.tensor([list(self.secret)], dtype=torch.float32)
        # One by one, for the result of a convolution depends on the size of the batch in its last
        # bit, and rounding to 8 bit would make a whole level of it.
        network = self.network
        parts = [network(image[None].float().cpu(), secret) for image in images]
        return round_to_8_bit(torch.cat(parts)).to(images)
