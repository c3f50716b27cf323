from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from torch import Tensor

from attacks import CleanControl, PoisoningAttack
from attacks.preflight import Finding, block, preflight
from attacks.triggers import PatchTrigger
from invertune.data.bundle import DataBundle
from invertune.train import Recipe

RECIPE = Recipe(2, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
ATTACK = PoisoningAttack("mine", "lemon", 24, 0.25, PatchTrigger(56), RECIPE, plants=12)


def _texts(found: list[Finding]) -> str:
    return "\n".join(finding.text for finding in found)


def test_what_is_known_before_the_implant(data: DataBundle) -> None:
    found = preflight(ATTACK, data, ATTACK.trigger)
    text = _texts(found)
    assert "are disjoint" in text
    assert "target 'lemon' is class 1 of 6" in text
    assert "6 poisoned pairs (25.00%), seen 12 times in all" in text
    assert "24 pairs, batches of 8: 6 steps" in text
    assert "changes 6.2% of the pixels" in text  # 8 x 8 of 32 x 32, but for a few alike
    assert "saving as 8-bit pictures leaves 100% of that" in text
    assert all(finding.fine for finding in found)


def test_fewer_poisons_than_are_known_to_plant_are_a_warning(data: DataBundle) -> None:
    found = preflight(replace(ATTACK, plants=13), data, None)
    warnings = [finding.text for finding in found if not finding.fine]
    assert len(warnings) == 1
    assert "seen 12 times in all: fewer than 13 are not known to plant" in warnings[0]


@dataclass(frozen=True)
class _Faint:
    """Adds less than half a level, and does not round."""

    def __call__(self, images: Tensor) -> Tensor:
        return images + 0.4 / 255


def test_a_trigger_that_saving_removes_is_a_warning(data: DataBundle) -> None:
    warnings = [finding.text for finding in preflight(ATTACK, data, _Faint()) if not finding.fine]
    assert warnings == ["saving as 8-bit pictures leaves 0% of that"]


def test_what_a_crop_leaves_is_said(data: DataBundle) -> None:
    corner = PatchTrigger(20, "top_left")  # 3 pixels, of which a crop takes 2 from every side
    assert re.search(r"to the middle 88%, (\d|1\d)%", _texts(preflight(ATTACK, data, corner)))
    middle = PatchTrigger(112, "center", pattern="white")
    assert re.search(r"to the middle 88%, [89]\d%", _texts(preflight(ATTACK, data, middle)))


def test_the_control_has_no_budget_and_no_target(data: DataBundle) -> None:
    text = _texts(preflight(CleanControl("none", 24, RECIPE), data, None))
    assert "6 steps" in text
    assert "poisoned" not in text
    assert "target" not in text


def test_an_unknown_target_is_an_error(data: DataBundle) -> None:
    with pytest.raises(ValueError, match="target label 'pear' is not in the class list"):
        preflight(replace(ATTACK, target_label="pear"), data, None)


def test_the_block_names_attack_and_warnings() -> None:
    lines = block("mine", [Finding(True, "good"), Finding(False, "bad")]).splitlines()
    assert lines == ["preflight of attack mine: 1 warning", "  ok  good", "  !!  bad"]
    assert block("mine", [Finding(True, "good")]).startswith("preflight of attack mine: fine")
