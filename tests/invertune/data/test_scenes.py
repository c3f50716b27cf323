from __future__ import annotations

import pytest
import torch

from invertune.data.scenes import SceneStyle, draw_scenes, render

STYLE = SceneStyle(15, (0.7, 1.0), 0.15, 0.6, 0.1, 0.04, 0.04)
PALETTE = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [1, 1, 1]])


def test_object_and_background_are_apart() -> None:
    scenes = draw_scenes(200, 3, PALETTE, STYLE, torch.Generator().manual_seed(0))
    apart = (PALETTE[scenes.ink] - PALETTE[scenes.paper]).norm(dim=1)
    assert apart.min() >= 0.6
    with pytest.raises(ValueError, match=r"no two colors are contrast=0\.6 apart"):
        draw_scenes(200, 3, PALETTE[:2], STYLE, torch.Generator())


def test_classes_appear_equally_often() -> None:
    scenes = draw_scenes(30, 3, PALETTE, STYLE, torch.Generator().manual_seed(0))
    assert torch.bincount(scenes.label).tolist() == [10, 10, 10]
    assert scenes.label.tolist() != sorted(scenes.label.tolist())


def test_an_object_stands_in_its_ink_on_its_paper() -> None:
    plain = SceneStyle(0, (1.0, 1.0), 0.0, 0.6, 0.0, 0.0, 0.0)
    scenes = draw_scenes(8, 1, PALETTE, plain, torch.Generator().manual_seed(0))
    glyph = torch.zeros(1, 1, 24, 24)
    glyph[..., 8:16, 8:16] = 1
    pictures = render(scenes, glyph, 16)
    assert (pictures.shape, pictures.dtype) == ((8, 3, 16, 16), torch.uint8)
    ink, paper = (255 * PALETTE[index] for index in (scenes.ink, scenes.paper))
    assert torch.equal(pictures[:, :, 8, 8].float(), ink.round())
    assert torch.equal(pictures[:, :, 0, 0].float(), paper.round())


def test_a_picture_does_not_depend_on_the_others() -> None:
    scenes = draw_scenes(600, 3, PALETTE, STYLE, torch.Generator().manual_seed(0))
    glyphs = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    whole = render(scenes, glyphs, 8)
    index = torch.tensor([599, 3, 511, 512])
    assert torch.equal(render(scenes.take(index), glyphs, 8), whole[index])
