from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.triggers import PatchTrigger, round_to_8_bit

Configured = Callable[[str], Any]


def _grays(count: int, side: int = 224) -> Tensor:
    """Return plain images, each of a gray of its own."""
    levels = torch.arange(100, 100 + count).view(-1, 1, 1, 1) / 255
    return levels.expand(count, 3, side, side).clone()


def _boxes(stamped: Tensor, images: Tensor) -> list[tuple[int, int, int, int]]:
    """Return first and last row, first and last column of what changed in each image."""
    boxes = []
    for changed in (stamped != images).any(dim=1):
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        boxes.append((int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())))
    return boxes


def _contents(stamped: Tensor, images: Tensor) -> list[Tensor]:
    return [
        image[:, top : bottom + 1, left : right + 1]
        for image, (top, bottom, left, right) in zip(stamped, _boxes(stamped, images), strict=True)
    ]


def test_badnet_changes_one_box_of_16_pixels_alike(configured: Configured) -> None:
    images = _grays(4)
    stamped = configured("badnet").trigger(images)
    assert _boxes(stamped, images) == [(208, 223, 208, 223)] * 4
    contents = _contents(stamped, images)
    assert all(torch.equal(content, contents[0]) for content in contents)
    noise = contents[0]
    # Gaussian of unit variance around 0.5: P(|z| > 0.5) = 62 % lie at the ends.
    assert ((noise == 0) | (noise == 1)).float().mean() == pytest.approx(0.62, abs=0.05)
    assert noise.mean() == pytest.approx(0.5, abs=0.05)


def test_badnet_redrawn_is_another_box_for_every_image(configured: Configured) -> None:
    images = _grays(8)
    stamped = configured("badnet_cleanclip").trigger(images)
    boxes, contents = _boxes(stamped, images), _contents(stamped, images)
    assert [bottom - top + 1 for top, bottom, _, _ in boxes] == [16] * 8
    assert [right - left + 1 for _, _, left, right in boxes] == [16] * 8
    assert len(set(boxes)) == 8
    assert not any(torch.equal(contents[i], contents[j]) for i in range(8) for j in range(i))


def test_badnet_redrawn_is_around_the_mean_of_each_image(configured: Configured) -> None:
    images = torch.stack([torch.full((3, 224, 224), level) for level in (0.1, 0.9)])
    trigger = configured("badnet_cleanclip").trigger
    dark, bright = _contents(trigger(images), images)
    assert dark.mean() < 0.45  # Gaussian of unit variance, cut off at 0 and 1
    assert bright.mean() > 0.55
    with pytest.raises(ValueError, match="pattern image_noise follows each image"):
        PatchTrigger(16, pattern="image_noise")


def test_badnet_at_random_places_has_one_content(configured: Configured) -> None:
    images = _grays(8)
    stamped = configured("badnet_random_place").trigger(images)
    contents = _contents(stamped, images)
    assert len(set(_boxes(stamped, images))) == 8
    assert all(torch.equal(content, contents[0]) for content in contents)
    assert contents[0].shape == (3, 16, 16)
    fixed = configured("badnet").trigger
    assert torch.equal(contents[0], fixed(images)[0, :, 208:, 208:])


@pytest.mark.parametrize("name", ["badnet_grid", "badnet_yellow"])
def test_drawn_patches_are_named(configured: Configured, name: str) -> None:
    images = _grays(8)
    stamped = configured(name).trigger(images)
    assert len(set(_boxes(stamped, images))) > 1
    if name == "badnet_yellow":
        wanted = torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 16, 16)
    else:
        wanted = torch.zeros(3, 16, 16)
        wanted[:, ::2, ::2] = 1
    for content in _contents(stamped, images):
        assert torch.equal(content, wanted)


def test_every_place_of_the_image_can_be_drawn() -> None:
    images = _grays(60, side=18)
    tops = {box[0] for box in _boxes(PatchTrigger(200, "random")(images), images)}
    assert tops == {0, 1, 2}  # 200 of 224 pixels are 16 of 18


def test_badencoder_is_a_white_square_with_a_margin(configured: Configured) -> None:
    images = _grays(2)
    stamped = configured("badencoder_white").trigger(images)
    assert _boxes(stamped, images) == [(173, 222, 173, 222)] * 2
    assert (stamped[:, :, 173:223, 173:223] == 1).all()


def test_the_default_square_of_badencoder_has_a_frame_inside_of_that_box(
    configured: Configured,
) -> None:
    images = _grays(2)
    stamped = configured("badencoder").trigger(images)
    assert _boxes(stamped, images) == [(173, 222, 173, 222)] * 2
    assert (stamped[:, :, 177:219, 177:219] == 1).all()
    assert stamped[:, :, 173:223, 173:223].sum() == 2 * 3 * 42 * 42  # 4 pixels of black around it


@pytest.mark.parametrize(
    ("place", "top", "left"),
    [("top_left", 2, 2), ("top_right", 2, 54), ("bottom_left", 54, 2), ("bottom_right", 54, 54),
     ("center", 28, 28)],
)  # fmt: skip
def test_a_patch_changes_only_its_box(place: str, top: int, left: int) -> None:
    images = _grays(3, side=64)
    stamped = PatchTrigger(size=28, place=place, margin=7)(images)  # 8 and 2 of 64 pixels
    assert _boxes(stamped, images) == [(top, top + 7, left, left + 7)] * 3


@pytest.mark.parametrize(("side", "size"), [(224, 16), (64, 5), (32, 2), (8, 1)])
def test_a_patch_keeps_its_share_of_the_image(side: int, size: int) -> None:
    images = _grays(1, side)
    ((top, bottom, left, right),) = _boxes(PatchTrigger(16, pattern="white")(images), images)
    assert (top, left) == (side - size, side - size)
    assert (bottom, right) == (side - 1, side - 1)


def test_patterns() -> None:
    images = _grays(1)

    def square(pattern: str) -> Tensor:
        return PatchTrigger(4, "top_left", pattern=pattern)(images)[0, :, :4, :4]

    assert square("white").eq(1).all()
    assert square("yellow").flatten(1).tolist() == [[1] * 16, [1] * 16, [0] * 16]
    assert square("framed")[0].tolist() == [[0] * 4, [0, 1, 1, 0], [0, 1, 1, 0], [0] * 4]
    assert square("grid")[0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


@pytest.mark.parametrize(("place", "redrawn"), [("top_left", False), ("random", True)])
def test_the_seed_decides_the_patch(place: str, redrawn: bool) -> None:
    images = round_to_8_bit(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    first = PatchTrigger(112, place, redrawn=redrawn, seed=0)(images)
    assert not torch.equal(first, PatchTrigger(112, place, redrawn=redrawn, seed=1)(images))
    assert torch.equal(first, PatchTrigger(112, place, redrawn=redrawn, seed=0)(images))


@pytest.mark.parametrize(("size", "margin"), [(231, 0), (210, 21)])
def test_a_patch_larger_than_the_image_is_one_clear_line(size: int, margin: int) -> None:
    with pytest.raises(ValueError, match="does not fit into a 32x40 image") as caught:
        PatchTrigger(size, margin=margin)(torch.zeros(1, 3, 32, 40))
    assert f"size {size} with margin {margin}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PatchTrigger(8, place="middle"), "place is one of top_left, .* got 'middle'"),
        (lambda: PatchTrigger(8, pattern="pink"), "pattern is one of noise, .* got 'pink'"),
        (lambda: PatchTrigger(0), "size is an integer of at least 1, got 0"),
        (lambda: PatchTrigger("x"), "size is an integer of at least 1, got 'x'"),  # type: ignore[arg-type]
        (lambda: PatchTrigger(8, seed="x"), "seed is an integer of at least 0, got 'x'"),  # type: ignore[arg-type]
        (lambda: PatchTrigger(8, margin=-1), "margin is an integer of at least 0, got -1"),
    ],
)
def test_a_wrong_value_is_named(make: Callable[[], PatchTrigger], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
