from __future__ import annotations

import pytest
import torch

from invertune.perturb.forms import FixedPatch, Form, FreeMask, LowFrequency, MaskedPattern, Pixels

SIDE = 32
FORMS: list[Form] = [
    Pixels(0.1), LowFrequency(0.1, 8), MaskedPattern(0.05), FixedPatch(0.03, 0.75),
    FreeMask(1), FreeMask(3),
]  # fmt: skip
each_form = pytest.mark.parametrize("form", FORMS, ids=repr)


def _start(form: Form, seed: int = 0) -> list[torch.Tensor]:
    return form.start(SIDE, torch.Generator().manual_seed(seed))


@each_form
def test_a_form_builds_a_trigger_of_its_side(form: Form) -> None:
    trigger = form.build(_start(form), SIDE)
    assert trigger.form == form.name
    assert trigger.pattern.shape == trigger.offset.shape == (3, SIDE, SIDE)
    assert trigger.mask.shape[1:] == (SIDE, SIDE)
    assert trigger.mask.min() >= 0
    assert trigger.mask.max() <= 1
    assert trigger.pattern.min() >= 0
    assert trigger.pattern.max() <= 1
    images = torch.rand(2, 3, SIDE, SIDE)
    assert not torch.equal(trigger(images), images)


@each_form
def test_the_generator_alone_decides_the_start(form: Form) -> None:
    first = _start(form)
    torch.rand(10)
    assert all(torch.equal(a, b) for a, b in zip(first, _start(form), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, _start(form, seed=1), strict=True))


@each_form
def test_every_free_tensor_has_a_gradient(form: Form) -> None:
    free = [tensor.requires_grad_() for tensor in _start(form)]
    trigger = form.build(free, SIDE)
    images = torch.full((1, 3, SIDE, SIDE), 0.4)
    (trigger(images).square().sum() + trigger.mask.sum()).backward()
    for tensor in free:
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("form", [Pixels(0.1), LowFrequency(0.1, 8)], ids=repr)
def test_an_offset_keeps_to_its_budget(form: Form, scale: float) -> None:
    trigger = form.build([scale * tensor for tensor in _start(form)], SIDE)
    assert trigger.offset.abs().max() <= 0.1 + 1e-7
    assert trigger.mask.sum() == 0
    images = torch.rand(2, 3, SIDE, SIDE)
    assert (trigger(images) - images).abs().max() <= 0.1 + 1e-6


def test_low_frequencies_are_alike_in_all_channels_and_smooth() -> None:
    offset = LowFrequency(0.1, 4).build(_start(LowFrequency(0.1, 4)), SIDE).offset
    assert torch.equal(offset[0], offset[1])
    assert torch.equal(offset[0], offset[2])
    assert offset.diff(dim=2).abs().max() < 0.02


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_a_mask_keeps_to_its_mass(scale: float) -> None:
    form = MaskedPattern(mass=0.05)
    mask = form.build([scale * tensor for tensor in _start(form)], SIDE).mask
    assert mask.sum() <= 0.05 * SIDE * SIDE + 1e-3
    assert mask.max() <= 1
    if scale == 0:  # spread evenly, nothing is clipped
        assert mask.sum().item() == pytest.approx(0.05 * SIDE * SIDE)


@pytest.mark.parametrize(("side", "size", "first"), [(224, 38, 172), (64, 11, 49)])
def test_a_patch_stands_where_it_should(side: int, size: int, first: int) -> None:
    form = FixedPatch(share=0.03, corner=0.767857)
    mask = form.build(form.start(side, torch.Generator()), side).mask
    expected = torch.zeros(1, side, side)
    expected[:, first : first + size, first : first + size] = 1
    assert torch.equal(mask, expected)


def test_a_patch_beyond_the_image_is_an_error() -> None:
    form = FixedPatch(share=0.25, corner=0.6)
    with pytest.raises(ValueError, match="does not fit into an image of 32 pixels"):
        form.build(_start(form), SIDE)


def test_a_free_mask_is_clamped_in_place() -> None:
    form = FreeMask(3)
    free = _start(form)
    assert free[0].eq(1).all()  # starts as the whole image
    free[0].sub_(3), free[1].mul_(100).sub_(50)
    kept = list(free)
    form.project(free)
    assert all(a is b for a, b in zip(free, kept, strict=True))
    assert free[0].eq(0).all()
    assert free[1].min().item() == pytest.approx(-1.7922)
    assert free[1].max().item() == pytest.approx(2.1461)
    pattern = form.build(free, SIDE).pattern
    assert pattern.min() >= 0
    assert pattern.max() <= 1


@pytest.mark.parametrize("form", [Pixels(0.1), MaskedPattern(0.05)], ids=repr)
def test_a_form_without_ranges_projects_nothing(form: Form) -> None:
    free = _start(form)
    before = [tensor.clone() for tensor in free]
    form.project(free)
    assert all(torch.equal(a, b) for a, b in zip(free, before, strict=True))
