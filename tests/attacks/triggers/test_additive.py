from __future__ import annotations

import torch

from attacks.triggers import AdditiveTrigger


def test_the_pattern_is_added_and_clipped() -> None:
    delta = torch.zeros(3, 8, 8)
    delta[0], delta[1] = 4 / 255, -4 / 255
    levels = torch.tensor([0, 100, 255]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    stamped = AdditiveTrigger(delta)(levels / 255).mul(255).round()
    expected = [[4, 0, 0], [104, 96, 100], [255, 251, 255]]
    assert stamped[:, :, 0, 0].tolist() == expected
    assert (stamped == stamped[:, :, :1, :1]).all()


def test_images_of_another_size_get_it_resized() -> None:
    delta = torch.zeros(3, 8, 8)
    delta[:, :, 4:] = 10 / 255
    black = AdditiveTrigger(delta)(torch.zeros(1, 3, 16, 24)).mul(255).round()
    assert black[..., :10].eq(0).all()
    assert black[..., 14:].eq(10).all()
    assert (black.diff(dim=-1) >= 0).all()
