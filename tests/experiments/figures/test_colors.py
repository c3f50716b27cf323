from __future__ import annotations

from experiments.figures import colors
from experiments.figures.study import MEASURES


def test_every_measure_of_a_study_has_a_color_of_its_own() -> None:
    assert list(colors.COLORS) == list(MEASURES)
    named = [value for name, value in vars(colors).items() if name.isupper() and name != "COLORS"]
    assert len(set(named)) == len(named)
    assert set(colors.COLORS.values()) <= set(named)
