"""The patch of BadNets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.triggers.base import REFERENCE_SIDE, each_generator, round_to_8_bit, scaled
from invertune.fields import check_counts

PLACES = ("top_left", "top_right", "bottom_left", "bottom_right", "center", "random")
PATTERNS = ("noise", "image_noise", "yellow", "white", "framed", "grid")
_FRAME = 12  # of the square's side, rounded down, is the frame's width; at least a pixel


@dataclass(frozen=True)
class PatchTrigger:
    """Overwrite a square of every image (BadNets, Gu et al., 2017).

    By default one patch of noise stands in one corner, as BadNets has it and as InverTune's
    checkpoints are named. The noise is Gaussian of unit variance around mid-gray, clipped. The
    CLIP codebases redraw it for every image, around the image's own mean color (``image_noise``,
    which wraps around there), and place it at random.

    Attributes:
        size: Side of the square, in pixels of an image of 224; other images keep its share.
        place: One of `PLACES`; ``random`` is drawn for every image.
        margin: Distance to both edges of the corner, in pixels of an image of 224.
        pattern: One of `PATTERNS`; ``framed`` is white in a thin black frame, to be seen on white
            too; ``grid`` is white where row and column are even.
        redrawn: Whether every image has noise of its own.
        seed: Fixes the noise, and with each image what is drawn for it.
    """

    size: int
    place: str = "bottom_right"
    margin: int = 0
    pattern: str = "noise"
    redrawn: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"place is one of {', '.join(PLACES)}, got {self.place!r}")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern is one of {', '.join(PATTERNS)}, got {self.pattern!r}")
        if self.pattern == "image_noise" and not self.redrawn:
            raise ValueError("pattern image_noise follows each image: it needs redrawn=true")
        check_counts(self, "size")
        check_counts(self, "margin", "seed", least=0)

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If the square does not fit into the image.
        """
        height, width = images.shape[-2:]
        side = min(height, width)
        size, margin = max(1, scaled(self.size, side)), scaled(self.margin, side)
        if size + margin > side:
            raise ValueError(
                f"size {self.size} with margin {self.margin} does not fit into a {height}x{width} "
                f"image: together they are at most {REFERENCE_SIDE}, pixels of an image of 224"
            )
        stamped = images.clone()
        # Not the global generator: its state depends on what ran before.
        common = torch.Generator().manual_seed(self.seed)
        if self.place != "random" and not self.redrawn:
            rows, columns = self._box(height, width, size, margin, common)
            stamped[..., rows, columns] = self._draw(size, common).to(images)
            return round_to_8_bit(stamped)
        for image, own in zip(stamped, each_generator(images, self.seed), strict=True):
            rows, columns = self._box(height, width, size, margin, own)
            common.manual_seed(self.seed)
            patch = self._draw(size, own if self.redrawn else common, self._middle(image))
            image[..., rows, columns] = patch.to(images)
        return round_to_8_bit(stamped)

    def _box(
        self, height: int, width: int, size: int, margin: int, generator: torch.Generator
    ) -> tuple[slice, slice]:
        if self.place == "random":
            top = int(torch.randint(height - size + 1, (), generator=generator))
            left = int(torch.randint(width - size + 1, (), generator=generator))
        elif self.place == "center":
            top, left = (height - size) // 2, (width - size) // 2
        else:
            top = margin if "top" in self.place else height - margin - size
            left = margin if "left" in self.place else width - margin - size
        return slice(top, top + size), slice(left, left + size)

    def _middle(self, image: Tensor) -> Tensor | float:
        """Return what the noise of an image, (3, H, W), is around."""
        if self.pattern == "image_noise":
            return image.mean(dim=(1, 2)).cpu().view(-1, 1, 1)
        return 0.5

    def _draw(self, size: int, generator: torch.Generator, middle: Tensor | float = 0.5) -> Tensor:
        """Return the square, (3, size, size) in [0, 1], with noise around ``middle``."""
        if self.pattern in ("noise", "image_noise"):
            return (middle + torch.randn(3, size, size, generator=generator)).clamp(0, 1)
        square = torch.ones(3, size, size)
        if self.pattern == "yellow":
            square[2] = 0
        elif self.pattern == "framed":
            edge = max(1, size // _FRAME)
            square.zero_()[:, edge:-edge, edge:-edge] = 1
        elif self.pattern == "grid":
            even = torch.arange(size) % 2 == 0
            square *= even & even.view(-1, 1)
        return square
