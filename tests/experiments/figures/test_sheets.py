from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.figures import sheets


def samples(count: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(count, side, side, 3), dtype=np.uint8)


def test_a_sheet_has_the_pictures_in_reading_order() -> None:
    sheet = sheets.contact_sheet(samples(5, side=200), ["a long label " * 9] * 4 + ["a\nb"], 2)
    first, cell, gap = samples(5, side=200), 200, 16
    place = sheet.crop((gap, gap, gap + cell, gap + cell))
    assert place.tobytes() == first[0].tobytes()
    assert sheet.width == 2 * cell + 3 * gap
    right = sheet.crop((2 * gap + cell, gap, 2 * gap + 2 * cell, gap + cell))
    assert right.tobytes() == first[1].tobytes()


@pytest.mark.parametrize(("count", "labels", "columns"), [(0, 0, 2), (2, 1, 2), (2, 2, 0)])
def test_a_sheet_needs_a_label_for_each_picture(count: int, labels: int, columns: int) -> None:
    with pytest.raises(ValueError, match="a label for each picture"):
        sheets.contact_sheet(samples(max(count, 1))[:count], ["x"] * labels, columns)
