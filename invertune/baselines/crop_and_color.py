"""The views of RoCLIP and SafeCLIP: flipped, cropped, in other colors and blurred, by kornia."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invertune.data.bundle import to_float
from invertune.fields import check_shares, check_types, is_number


@dataclass(frozen=True)
class CropAndColor:
    """Flip, crop, color and blur, as RoCLIP and SafeCLIP have it (Yang et al., 2023, 2024).

    The formulas are torchvision's, and every image has a draw of its own. A batch is changed at
    once, which takes a third of the time of one image after the other; therefore the order in which
    brightness, contrast, saturation and hue change is drawn for a batch, not for an image.

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
        """Return changed copies of 8 bits a channel; see `ImageAugmentation`."""
        if not len(images):
            return images.clone()
        seed = int(torch.randint(2**62, (), generator=generator))
        floating = images.is_floating_point()
        shares = images.float() if floating else to_float(images)
        # kornia draws from the global generator, and half precision would move what it cuts out.
        exact = torch.autocast(images.device.type, enabled=False)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), exact:
            # Not `torch.manual_seed`, which would seed the generators of GPUs too.
            torch.default_generator.manual_seed(seed)
            changed = self._transform(images.shape[-1])(shares)
        pixels = (changed * 255).round().clamp(0, 255).to(torch.uint8)
        return to_float(pixels).to(images.dtype) if floating else pixels

    def _transform(self, side: int) -> nn.Module:
        from kornia import augmentation  # takes a second to import

        low, high = (share * side for share in self.blur)
        # Five deviations to either side are the papers' 21 of 224 pixels; an image cannot be
        # reflected by more than it has.
        kernel = 2 * min(max(1, round(5 * high)), side - 1) + 1
        return nn.Sequential(
            augmentation.RandomHorizontalFlip(p=0.5),
            augmentation.RandomResizedCrop((side, side), tuple(self.crop), align_corners=False),
            augmentation.ColorJitter(*self.jitter, p=self.jittered),
            augmentation.RandomGrayscale(p=self.gray),
            augmentation.RandomGaussianBlur((kernel, kernel), (low, high), p=1.0),
        )
