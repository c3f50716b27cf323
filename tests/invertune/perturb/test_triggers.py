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
