from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertune.perturb.families import Family, Overlay, SmoothMask, SmoothOffset, SmoothWarp

SIDE = 32
FAMILIES = [SmoothMask(), SmoothOffset(spread=2.0), Overlay(), SmoothWarp(spread=2.0)]


def _start(family: Family, count: int = 3, seed: int = 0) -> list[Tensor]:
    return family.start(count, SIDE, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_triggers_lie_side_by_side(family: Family) -> None:
    free = _start(family)
    assert all(len(tensor) == 3 for tensor in free)
    built = family.build(free, SIDE, 0.1)
    assert built.form == family.name
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    together = built(images)
    for row in range(3):
        alone = family.build([tensor[row : row + 1] for tensor in free], SIDE, 0.1).one(0)
        assert torch.allclose(alone(images[row : row + 1])[0], together[row], atol=1e-6)
        assert torch.allclose(built.one(row).share * torch.ones(()), torch.tensor(alone.share))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_free_tensor_has_a_gradient(family: Family) -> None:
    free = [tensor.requires_grad_() for tensor in _start(family)]
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    family.build(free, SIDE, 0.1)(images).square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in free)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_generator_alone_decides_the_start(family: Family) -> None:
    first = _start(family)
    torch.rand(10)
    assert all(torch.equal(a, b) for a, b in zip(first, _start(family), strict=True))
    assert not torch.equal(first[0], _start(family, seed=1)[0])


@pytest.mark.parametrize("budget", [0.2, 0.05])
def test_a_masks_budget_is_its_mass(budget: float) -> None:
    built = SmoothMask(spread=0.01).build(_start(SmoothMask(spread=0.01)), SIDE, budget)
    # Nearly flat logits: no pixel is at its limit of 1, so that all of the mass is spent.
    assert built.mask.mean(dim=(1, 2, 3)).tolist() == pytest.approx([budget] * 3, rel=1e-4)
    peaked = SmoothMask().build([100 * tensor for tensor in _start(SmoothMask())], SIDE, budget)
    assert peaked.mask.max() <= 1
    assert (peaked.mask.mean(dim=(1, 2, 3)) <= budget + 1e-6).all()


@pytest.mark.parametrize("budget", [0.2, 0.05])
def test_an_offsets_budget_is_its_largest_change(budget: float) -> None:
    free = [100 * tensor for tensor in _start(SmoothOffset(spread=1.0))]
    offset = SmoothOffset().build(free, SIDE, budget).offset
    assert offset.abs().max() == pytest.approx(budget)
    assert torch.equal(offset[:, 0], offset[:, 2])
    assert SmoothOffset().build(_start(SmoothOffset()), SIDE, budget).offset.eq(0).all()


def test_an_overlays_budget_is_its_opacity() -> None:
    built = Overlay().build(_start(Overlay()), SIDE, 0.2)
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(built(images), 0.8 * images + 0.2 * built.pattern, atol=1e-6)
    assert built.pattern.std() > 0.1
    assert built.one(0).share == pytest.approx(0.2)


def test_a_warps_budget_is_the_shift_of_its_control_points() -> None:
    free = [torch.full((1, 2, 5, 5), 100.0)]
    flow = SmoothWarp().build(free, SIDE, 0.125).flow
    assert flow is not None
    assert torch.allclose(flow, torch.full((1, 2, SIDE, SIDE), 0.125 * SIDE), atol=1e-4)


def test_a_warp_needs_a_start() -> None:
    with pytest.raises(ValueError, match="spread is positive, got 0"):
        SmoothWarp(spread=0)
    with pytest.raises(ValueError, match="points is an integer of at least 2, got 1"):
        SmoothWarp(points=1)
    with pytest.raises(ValueError, match="grid is an integer of at least 1, got 0"):
        SmoothMask(grid=0)
