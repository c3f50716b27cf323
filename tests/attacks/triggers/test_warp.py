from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.triggers import WarpTrigger

Configured = Callable[[str], Any]
SIDE = 224


def _offsets(trigger: WarpTrigger) -> Tensor:
    """Return how far each pixel is shifted along x and y, (2, H, W) in pixels."""
    place = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    field = trigger.field(SIDE, SIDE).permute(2, 0, 1)
    return (field - torch.stack([columns, rows])) * (SIDE - 1) / 2


def _neighbor_correlations(offsets: Tensor) -> list[float]:
    pairs = [
        (axis[:, :-1], axis[:, 1:]) if along_x else (axis[:-1], axis[1:])
        for axis in offsets
        for along_x in (True, False)
    ]
    return [float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) for a, b in pairs]


def test_wanet_of_as_many_points_as_pixels_is_jitter(configured: Configured) -> None:
    trigger = configured("wanet_jitter").trigger
    assert trigger.control.shape == (2, SIDE, SIDE)
    offsets = _offsets(trigger)
    for axis in offsets.abs():
        assert axis.mean() == pytest.approx(0.498, abs=0.005)
        assert axis.max() == pytest.approx(0.995, abs=0.005)
    assert all(abs(found) < 0.02 for found in _neighbor_correlations(offsets))


def test_wanet_of_few_points_is_smooth(configured: Configured) -> None:
    trigger = configured("wanet_smooth").trigger
    assert trigger.control.shape == (2, 4, 4)
    for strength in (3.5, trigger.strength):
        offsets = _offsets(WarpTrigger(trigger.control, strength))
        assert all(found > 0.99 for found in _neighbor_correlations(offsets))
        # So many half pixels at the control points, some less between them; cut off at the edges.
        inner = offsets[:, 40:-40, 40:-40]
        assert 0.5 < inner.abs().mean() / (strength / 2) < 1
        assert inner.diff(dim=-1).abs().max() < 0.1 * strength


@pytest.mark.parametrize("name", ["wanet", "wanet_jitter"])
@pytest.mark.parametrize("side", [64, 224])
def test_wanet_leaves_plain_images(configured: Configured, name: str, side: int) -> None:
    plain = (torch.tensor([0, 77, 128, 255]) / 255).view(4, 1, 1, 1).expand(4, 3, side, side)
    assert torch.equal(configured(name).trigger(plain), plain)


@pytest.mark.parametrize("axis", [0, 1])
def test_shifts_are_along_x_and_along_y(axis: int) -> None:
    control = torch.zeros(2, 4, 4)
    control[axis] = 1
    # 20 half pixels at 224 take each pixel from 10 (but for the last bit) to the right or below.
    offsets = _offsets(WarpTrigger(control, 20.0))[:, :200, :200]
    assert torch.allclose(offsets[axis], torch.tensor(10.0), atol=0.05)
    assert offsets[1 - axis].abs().max() < 1e-3


def test_pixels_come_from_where_the_field_says(configured: Configured) -> None:
    trigger = configured("wanet").trigger
    ramp = torch.arange(SIDE) / (SIDE - 1)  # a pixel is 1.14 levels of 255
    images = torch.stack([ramp.expand(SIDE, SIDE), ramp.view(-1, 1).expand(SIDE, SIDE)])
    warped = trigger(images[:, None].expand(2, 3, SIDE, SIDE))[:, 0]
    found = (warped - images) * (SIDE - 1)
    assert (found - _offsets(trigger)).abs().max() < 0.5  # rounding is half a level


def test_control_points_have_a_mean_size_of_one() -> None:
    control = WarpTrigger.draw(4, 1.0, seed=0).control
    assert control.abs().mean() == pytest.approx(1)
    assert control.min() < 0 < control.max()
    assert not torch.equal(control, WarpTrigger.draw(4, 1.0, seed=1).control)


def test_a_warp_keeps_its_share_of_the_image(configured: Configured) -> None:
    control = configured("wanet").trigger.control
    small = WarpTrigger(control, 3.5).field(64, 64)
    large = WarpTrigger(control, 3.5).field(127, 127)[::2, ::2]
    assert torch.allclose(small, large, atol=1e-4)


@pytest.mark.parametrize(
    ("points", "strength", "said"),
    [(1, 1.0, "points is at least 2 control points a side, got 1"),
     (4, 0, "strength is positive, got 0"), (4, -1.0, r"strength is positive, got -1\.0")],
)  # fmt: skip
def test_a_wrong_value_is_named(points: int, strength: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WarpTrigger.draw(points, strength, seed=0)
