"""Augmentation of images as the baselines' papers have it, by torchvision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision import transforms

from invertune.data.bundle import to_float
from invertune.fields import check_shares, check_types, is_number


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


@dataclass(frozen=True)
class CropAndColor:
    """Flip, crop, color and blur, as RoCLIP and SafeCLIP have it (Yang et al., 2023, 2024).

    Attributes:
        crop: Smallest and largest share of the image's area that is kept, and scaled up again.
        jitter: Largest change of brightness, contrast, saturation and hue, as shares.
        jittered: Share of the images whose colors are changed.
        gray: Share of the images that lose their colors.
        blur: Smallest and largest deviation of the Gaussian that blurs an image, as shares of its
            side: what is a blur at 224 pixels is one at 64.
    """

    crop: Sequence[float]
    jitter: Sequence[float]
    jittered: float
    gray: float
    blur: Sequence[float]

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "jittered", "gray", zero=True, one=True)
        for name, count in (("crop", 2), ("jitter", 4), ("blur", 2)):
            values = getattr(self, name)
            right = isinstance(values, list | tuple) and len(values) == count
            if not right or not all(is_number(one) and 0 <= one <= 1 for one in values):
                raise ValueError(f"{name} is {count} shares in [0, 1], got {values!r:.80}")
        for name in ("crop", "blur"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is the smallest share, above 0, and the largest, got "
                                 f"{[low, high]!r}")  # fmt: skip
        if self.jitter[3] > 0.5:
            raise ValueError(f"jitter: hue is turned by 0.5 at most, got {self.jitter[3]!r}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed copies; see `ImageAugmentation`."""
        return each_apart(self._transform(images.shape[-1]), images, generator)

    def _transform(self, side: int) -> Callable[[Tensor], Tensor]:
        low, high = (share * side for share in self.blur)
        # Five deviations to either side are the papers' 21 of 224 pixels; an image cannot be
        # reflected by more than it has.
        kernel = 2 * min(max(1, round(5 * high)), side - 1) + 1
        color = transforms.ColorJitter(*self.jitter)
        found: Callable[[Tensor], Tensor] = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomResizedCrop(side, tuple(self.crop), antialias=True),
                transforms.RandomApply([color], self.jittered),
                transforms.RandomGrayscale(self.gray),
                transforms.GaussianBlur(kernel, (low, high)),
            ]
        )
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
