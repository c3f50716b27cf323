from __future__ import annotations

import pytest
import torch

from invertune.perturb.triggers import InvertedTrigger


def test_a_trigger_mixes_adds_and_clips() -> None:
    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 0], mask[0, 0, 1] = 1.0, 0.5
    pattern, offset = torch.full((3, 2, 2), 0.8), torch.zeros(3, 2, 2)
    offset[:, 1, 1] = 0.9
    images = torch.full((1, 3, 2, 2), 0.4)
    stamped = InvertedTrigger("mask", mask, pattern, offset)(images)
    assert stamped[0, 0].flatten().tolist() == pytest.approx([0.8, 0.6, 0.4, 1.0])
    assert images.eq(0.4).all()


def test_its_share_is_the_mask_or_what_is_added() -> None:
    mask, zeros = torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)
    mask[0, 0] = 0.5
    assert InvertedTrigger("mask", mask, zeros, zeros).share == 0.25
    offset = zeros.clone()
    offset[1, 0, 0], offset[0, 1, 1] = 0.1, 0.5 / 255  # the latter is too little to count
    assert InvertedTrigger("pixels", zeros[:1], zeros, offset).share == 0.25


def _shifted(x: float, y: float) -> InvertedTrigger:
    zeros = torch.zeros(3, 4, 4)
    flow = torch.tensor([x, y]).view(2, 1, 1).expand(2, 4, 4)
    return InvertedTrigger("warp", zeros[:1], zeros, zeros, flow)


def test_a_flow_says_where_pixels_come_from() -> None:
    columns = torch.arange(4.0).expand(3, 4, 4)[None] / 4
    assert torch.allclose(_shifted(1, 0)(columns)[0, 0, 0], torch.tensor([1, 2, 3, 3]) / 4)
    assert torch.allclose(_shifted(-0.5, 0)(columns)[0, 0, 0], torch.tensor([0, 0.5, 1.5, 2.5]) / 4)
    assert torch.allclose(_shifted(0, 2)(columns), columns, atol=1e-6)
    rows = columns.transpose(2, 3)
    assert torch.allclose(_shifted(0, 1)(rows)[0, 0, :, 0], torch.tensor([1, 2, 3, 3]) / 4)


def test_a_warps_share_is_what_moves_by_more_than_half_a_pixel() -> None:
    assert _shifted(0.3, 0.3).share == 0
    assert _shifted(0.4, 0.4).share == 1


def test_many_triggers_side_by_side() -> None:
    zeros = torch.zeros(2, 3, 4, 4)
    offset = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    both = InvertedTrigger("pixels", zeros[:, :1], zeros, offset)
    assert torch.allclose(both(zeros), offset)
    assert torch.equal(both.one(1).offset, offset[1])
    assert torch.equal(
        both.one(torch.tensor([1, 1, 0])).offset[:, 0, 0, 0], offset[[1, 1, 0], 0, 0, 0]
    )
    assert set(both.tensors()) == {"mask", "pattern", "offset"}


def test_a_detached_copy_is_its_own() -> None:
    offset = torch.zeros(3, 4, 4, requires_grad=True)
    trigger = InvertedTrigger("pixels", offset[:1] * 1, offset * 1, offset * 1, offset[:2] * 1)
    copied = trigger.detached()
    assert set(copied.tensors()) == {"mask", "pattern", "offset", "flow"}
    assert not any(tensor.requires_grad for tensor in copied.tensors().values())
    trigger.offset.data.fill_(1)
    assert copied.offset.eq(0).all()
