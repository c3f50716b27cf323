from __future__ import annotations

import itertools

import pytest
import torch

from attacks.triggers import CodeTrigger
from attacks.triggers.code import codes, window

DARK = [1, 4, 6, 11, 15]


def test_there_are_4368_codes_in_lexicographic_order() -> None:
    table = codes()
    assert table.shape == (4368, 16)
    assert table.unique().tolist() == [0, 1]
    dark = [tuple((row == 0).nonzero().flatten().tolist()) for row in table]
    assert dark[0] == (0, 1, 2, 3, 4)
    assert dark[-1] == (11, 12, 13, 14, 15)
    assert dark == sorted(set(dark)) == list(itertools.combinations(range(16), 5))


@pytest.mark.parametrize(("side", "first"), [(224, 112), (64, 32), (32, 16)])
def test_a_code_is_four_pixels_at_any_size(side: int, first: int) -> None:
    images = torch.full((2, 3, side, side), 100 / 255)
    stamped = CodeTrigger(DARK, 112)(images)
    box = (..., slice(first, first + 4), slice(first, first + 4))
    cells = torch.ones(16)
    cells[DARK] = 0
    assert torch.equal(stamped[box], cells.view(4, 4).expand(2, 3, 4, 4))
    assert torch.equal(window(stamped, 112), stamped[box])
    stamped[box] = images[box]
    assert torch.equal(stamped, images)


@pytest.mark.parametrize("dark", [[0, 1, 2, 3], [0, 1, 2, 3, 3], [0, 1, 2, 3, 16], [-1, 1, 2, 3, 4],
                                  [0, 1, 2, 3, 4, 5]], ids=str)  # fmt: skip
def test_dark_cells_are_five_different_ones(dark: list[int]) -> None:
    with pytest.raises(ValueError, match="dark is 5 different cells of 0 to 15, got"):
        CodeTrigger(dark, 112)


def test_a_code_that_does_not_fit_is_one_clear_line() -> None:
    CodeTrigger(DARK, 220)(torch.zeros(1, 3, 224, 224))
    for corner in (-5, 221):
        with pytest.raises(
            ValueError, match=rf"corner is 0 to 220 \(pixels of 224\), got {corner}"
        ):
            CodeTrigger(DARK, corner)
    with pytest.raises(ValueError, match="4 pixels at 220/224 does not fit into a 32x32 image"):
        CodeTrigger(DARK, 220)(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="does not fit into a 3x64 image"):
        CodeTrigger(DARK, 0)(torch.zeros(1, 3, 3, 64))
