"""Pictures drawn from a handful of random numbers: an object on a textured ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.fields import check_shares, check_types, check_weights, is_number
from invertune.progress import progress

_RENDER_BATCH = 512


@dataclass(frozen=True)
class Scenes:
    """The random numbers of N samples; ``render`` is a pure function of them.

    Attributes:
        label: (N,) class index.
        ink, paper: (N,) indices of the named colors of object and background.
        ink_rgb, paper_rgb: (N, 3) the colors as drawn: the named ones, a little off.
        affine: (N, 2, 3) from picture to glyph coordinates.
        wave: (N, 2, 4) frequency along x and y, phase, amplitude; of the background's texture
            and of the one that lies over all.
        kind: (N, 2) texture: 0 stripes, 1 checks, 2 smooth noise.
        noise: (N, 2, 9, 9) the grids that smooth noise is interpolated from, in [-1, 1].
    """

    label: Tensor
    ink: Tensor
    paper: Tensor
    ink_rgb: Tensor
    paper_rgb: Tensor
    affine: Tensor
    wave: Tensor
    kind: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: Tensor | slice) -> Scenes:
        """Return the chosen samples."""
        return Scenes(**{name: value[index] for name, value in vars(self).items()})

    @staticmethod
    def joined(parts: Sequence[Scenes]) -> Scenes:
        """Return the samples of all parts, in their order."""
        names = vars(parts[0])
        return Scenes(**{name: torch.cat([vars(part)[name] for part in parts]) for name in names})


@dataclass(frozen=True)
class SceneStyle:
    """How samples vary.

    Attributes:
        turn: Largest rotation, in degrees, either way.
        scale: Smallest and largest size of the object, as a share of the picture.
        shift: Largest displacement, as a share of half the picture.
        contrast: Least RGB distance of object and background color.
        background_texture: Largest amplitude of the background's texture.
        overall_texture: Largest amplitude of the texture that lies over all.
        color_jitter: Largest deviation from the named color, per channel.
    """

    turn: float
    scale: tuple[float, float]
    shift: float
    contrast: float
    background_texture: float
    overall_texture: float
    color_jitter: float

    def __post_init__(self) -> None:
        check_types(self)
        if len(self.scale) != 2 or not all(is_number(size) and size > 0 for size in self.scale):
            raise ValueError(f"scale is the smallest and the largest size, got {self.scale!r}")
        check_weights(self, "turn", "shift", "contrast")
        check_shares(
            self, "background_texture", "overall_texture", "color_jitter", zero=True, one=True
        )


def _uniform(low: float, high: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=generator)


def draw_scenes(
    count: int, classes: int, palette: Tensor, style: SceneStyle, generator: torch.Generator
) -> Scenes:
    """Draw ``count`` samples; classes appear equally often, in random order.

    Args:
        count: Number of samples.
        classes: Number of classes.
        palette: (P, 3) RGB of the named colors, in [0, 1].
        style: How samples vary.
        generator: Source of every random number.

    Raises:
        ValueError: If no two colors of the palette are ``style.contrast`` apart.
    """
    allowed = (torch.cdist(palette, palette) >= style.contrast).nonzero()
    if len(allowed) == 0:
        raise ValueError(f"no two colors are contrast={style.contrast} apart in RGB")
    label = (torch.arange(count) % classes)[torch.randperm(count, generator=generator)]
    pair = allowed[torch.randint(len(allowed), (count,), generator=generator)]
    jitter = _uniform(-style.color_jitter, style.color_jitter, (2, count, 3), generator)

    angle = torch.deg2rad(_uniform(-style.turn, style.turn, (count,), generator))
    zoom = _GLYPH_ZOOM / _uniform(*style.scale, (count,), generator)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    shift = _uniform(-style.shift, style.shift, (count, 2), generator)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    linear = torch.stack([flip * cos, -flip * sin, sin, cos], dim=1).view(count, 2, 2)
    affine = torch.cat([linear, -(linear @ shift.unsqueeze(2))], dim=2)

    direction = _uniform(0, torch.pi, (count, 2), generator)
    frequency = torch.pi * _uniform(2, 10, (count, 2), generator)  # half periods across the picture
    phase = _uniform(0, 2 * torch.pi, (count, 2), generator)
    largest = torch.tensor([style.background_texture, style.overall_texture])
    amplitude = largest * torch.rand(count, 2, generator=generator)
    wave = torch.stack(
        [frequency * direction.cos(), frequency * direction.sin(), phase, amplitude], dim=2
    )
    return Scenes(
        label=label,
        ink=pair[:, 0],
        paper=pair[:, 1],
        ink_rgb=(palette[pair[:, 0]] + jitter[0]).clamp(0, 1),
        paper_rgb=(palette[pair[:, 1]] + jitter[1]).clamp(0, 1),
        affine=affine,
        wave=wave,
        kind=torch.randint(3, (count, 2), generator=generator),
        noise=_uniform(-1, 1, (count, 2, 9, 9), generator),
    )


# A glyph fills 5/6 of its canvas; at scale 1 it fills nine tenths of the picture.
_GLYPH_ZOOM = (5 / 6) / 0.9


def _textures(scenes: Scenes, layer: int, side: int) -> Tensor:
    """Return (N, 1, side, side) textures of one layer, scaled by their amplitudes."""
    axis = torch.linspace(-1, 1, side)
    fx, fy, phase, amplitude = (scenes.wave[:, layer, i].view(-1, 1, 1) for i in range(4))
    kind = scenes.kind[:, layer]
    texture = torch.empty(len(scenes), side, side)
    waves = (kind < 2).nonzero().flatten()
    if len(waves):
        along = fx[waves] * axis + fy[waves] * axis.view(-1, 1)
        value = torch.sin(along + phase[waves])
        checks = (kind[waves] == 1).nonzero().flatten()
        if len(checks):
            chosen = waves[checks]
            across = fy[chosen] * axis - fx[chosen] * axis.view(-1, 1)
            value[checks] *= torch.sin(across + phase[chosen])
        texture[waves] = value
    smooth = (kind == 2).nonzero().flatten()
    if len(smooth):
        grid = scenes.noise[smooth, layer].unsqueeze(1)
        size = (side, side)
        texture[smooth] = F.interpolate(grid, size, mode="bilinear", align_corners=True).squeeze(1)
    return (texture * amplitude).unsqueeze(1)


def render(scenes: Scenes, glyphs: Tensor, side: int) -> Tensor:
    """Return the pictures of ``scenes``, (N, 3, side, side) uint8.

    Args:
        scenes: The samples' random numbers.
        glyphs: (K, 1, G, G) coverage masks from `draw_glyphs`.
        side: Side of the pictures, in pixels.
    """
    pictures = torch.empty(len(scenes), 3, side, side, dtype=torch.uint8)
    for start in progress(range(0, len(scenes), _RENDER_BATCH), "draw pictures"):
        part = scenes.take(slice(start, start + _RENDER_BATCH))
        grid = F.affine_grid(part.affine, [len(part), 1, side, side], align_corners=False)
        ink = F.grid_sample(glyphs[part.label], grid, mode="bilinear", align_corners=False)
        paper = part.paper_rgb[..., None, None] + _textures(part, 0, side)
        picture = torch.lerp(paper, part.ink_rgb[..., None, None].expand_as(paper), ink)
        picture += _textures(part, 1, side)
        rounded = picture.mul_(255).round_().clamp_(0, 255)
        pictures[start : start + len(part)] = rounded.to(torch.uint8)
    return pictures
