from __future__ import annotations

from typing import Any

import pytest
import torch

from invertune.perturb.families import Overlay, SmoothWarp
from invertune.perturb.probes import Probe


def test_what_is_drawn_is_the_family_at_random_starts() -> None:
    probe = Probe(Overlay(spread=1.0, name="random"), [0.3, 0.1], draws=3)
    drawn = probe.draw(16, 0.1, torch.Generator().manual_seed(0))
    assert (probe.name, drawn.form, len(drawn.mask)) == ("random", "random", 3)
    assert torch.allclose(drawn.mask, torch.full((3, 1, 16, 16), 0.1))
    assert not torch.equal(drawn.pattern[0], drawn.pattern[1])
    again = probe.draw(16, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.pattern, again.pattern)
    assert drawn.origin == {}  # nobody can go on optimizing it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": 3}, "family is a Family, got 3"),
        ({"draws": 0}, "draws is an integer of at least 1, got 0"),
        ({"budgets": []}, "budgets are positive and ever smaller, got"),
        ({"budgets": [0.1, 0.2]}, "budgets are positive and ever smaller, got"),
        ({"budgets": [0.1, 0]}, "budgets are positive and ever smaller, got"),
        ({"budgets": ["a"]}, "budgets are positive and ever smaller, got"),
    ],
)
def test_what_makes_no_sense(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Probe(**{"family": SmoothWarp(), "budgets": [0.1], "draws": 1, **changes})
