"""Augmentation of images, and AutoAugment by torchvision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision import transforms

from invertune.data.bundle import to_float


class ImageAugmentation(Protocol):
    """Changes every image of a batch at random."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed copies, of the type and on the device of ``images``.

        Args:
            images: (B, 3, H, W), uint8 or floats in [0, 1]; they stay as they are.
            generator: Decides all that is drawn.
        """


@dataclass(frozen=True)
class AutoAugment:
    """AutoAugment with the policy found on ImageNet (Cubuk et al., 2019), as CleanCLIP uses it.

    One of 25 pairs of operations is drawn for each image. They are made for any size: what is
    moved, is moved by a share of the image's side.
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed copies; see `ImageAugmentation`."""
        return each_apart(_auto_augment(), images, generator)


@functools.cache
def _auto_augment() -> Callable[[Tensor], Tensor]:
    found: Callable[[Tensor], Tensor] = transforms.AutoAugment()
    return found


def each_apart(
    transform: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator
) -> Tensor:
    """Return what a transform of torchvision makes of each image, drawn for each anew.

    It works on 8 bits a channel, as the papers' code does: some operations of AutoAugment are
    defined on them alone.

    Args:
        transform: Takes (3, H, W) uint8, and may draw from the global generator, which is left as
            it was.
        images: (B, 3, H, W), uint8 or floats in [0, 1]; they stay as they are.
        generator: Decides all that is drawn.
    """
    floating = images.is_floating_point()
    pixels = (images * 255).round().to(torch.uint8) if floating else images
    seeds = torch.randint(2**62, (len(pixels),), generator=generator).tolist()
    changed = []
    # torchvision draws from the global generator, and half precision would move what it turns.
    exact = torch.autocast(pixels.device.type, enabled=False)
    with torch.random.fork_rng(devices=[]), exact:
        for image, seed in zip(pixels, seeds, strict=True):
            # Not `torch.manual_seed`, which would seed the generators of GPUs too.
            torch.default_generator.manual_seed(seed)
            changed.append(transform(image))
    found = torch.stack(changed) if changed else pixels.clone()
    return to_float(found).to(images.dtype) if floating else found
