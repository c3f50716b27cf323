from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from torch import Tensor

from attacks import BadEncoder, CleanControl, PoisoningAttack
from attacks import preflight as module
from attacks.preflight import Finding, block, preflight, survival
from attacks.triggers import PatchTrigger
from invertune.data.bundle import DataBundle
from invertune.training.recipe import Recipe

RECIPE = Recipe(2, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
ATTACK = PoisoningAttack("mine", "lemon", 24, 0.25, PatchTrigger(56), RECIPE)


def _texts(found: list[Finding]) -> str:
    return "\n".join(finding.text for finding in found)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, data: DataBundle) -> None:
    monkeypatch.setattr(module, "PLANTING_POISONS", {data.name: {"mine": 12, "more": 13}})
    monkeypatch.setattr(module, "PLANTING_STEPS", {data.name: {"encoder": 7}})


def test_what_is_known_before_the_implant(data: DataBundle) -> None:
    found = preflight(ATTACK, data)
    text = _texts(found)
    assert "are disjoint" in text
    assert "target 'lemon' is class 1 of 6" in text
    assert "6 poisoned pairs (25.00%), seen 12 times in all" in text
    assert "24 pairs, batches of 8: 6 steps" in text
    assert {finding.kind for finding in found} == {"ok"}


def test_what_the_trigger_changes_and_saving_leaves(data: DataBundle) -> None:
    found = survival(PatchTrigger(56), data)
    assert "changes 6.2% of the pixels" in _texts(found)  # 8 x 8 of 32 x 32, but for a few alike
    assert "saving as 8 bit leaves 100% of it" in _texts(found)


def test_fewer_poisons_than_are_known_to_plant_are_a_warning(data: DataBundle) -> None:
    found = preflight(replace(ATTACK, name="more"), data)
    warnings = [finding.text for finding in found if finding.kind == "warning"]
    assert len(warnings) == 1
    assert "seen 12 times in all; the fewest known to plant more in" in warnings[0]
    assert warnings[0].endswith("are 13")


def test_what_nobody_knows_is_a_note(data: DataBundle) -> None:
    found = preflight(replace(ATTACK, name="other"), data)
    notes = [finding.text for finding in found if finding.kind == "note"]
    assert len(notes) == 1
    assert "what plants other in" in notes[0]


@pytest.mark.parametrize(("name", "kind"), [("encoder", "warning"), ("another", "note")])
def test_an_attack_without_poison_is_known_by_its_steps(
    data: DataBundle, name: str, kind: str
) -> None:
    attack = BadEncoder(name, "lemon", 24, PatchTrigger(56), 2, 1.0, 1.0, RECIPE)
    found = [finding for finding in preflight(attack, data) if finding.kind != "ok"]
    assert [finding.kind for finding in found] == [kind]
    assert found[0].text.startswith("24 pairs, batches of 8: 6 steps; ")


@dataclass(frozen=True)
class _Faint:
    """Adds less than half a level, and does not round."""

    def __call__(self, images: Tensor) -> Tensor:
        return images + 0.4 / 255


def test_a_trigger_that_saving_removes_is_a_warning(data: DataBundle) -> None:
    warnings = [one.text for one in survival(_Faint(), data) if one.kind == "warning"]
    assert warnings == ["saving as 8 bit leaves 0% of it"]


def test_what_a_crop_leaves_is_said(data: DataBundle) -> None:
    def cropped(trigger: PatchTrigger) -> Finding:
        return survival(trigger, data)[-1]

    corner = cropped(PatchTrigger(20, "top_left"))  # 3 pixels, of which a crop takes 2
    assert re.search(r"to the middle 88% after stamping would leave (\d|1\d)%", corner.text)
    assert corner.kind == "note"
    middle = cropped(PatchTrigger(112, "center", pattern="white"))
    assert re.search(r"to the middle 88% after stamping would leave [89]\d%", middle.text)
    assert middle.kind == "ok"


def test_the_control_has_no_budget_and_no_target(data: DataBundle) -> None:
    text = _texts(preflight(CleanControl("none", 24, RECIPE), data))
    assert "6 steps" in text
    assert "poisoned" not in text
    assert "target" not in text


def test_an_unknown_target_is_an_error(data: DataBundle) -> None:
    with pytest.raises(ValueError, match="target label 'pear' is not in the class list"):
        preflight(replace(ATTACK, target_label="pear"), data)


def test_the_block_names_attack_and_warnings() -> None:
    found = [Finding("ok", "good"), Finding("warning", "bad"), Finding("note", "so")]
    lines = block("mine", found).splitlines()
    assert lines == [
        "preflight of attack mine: 1 warning, 1 note", "  ok  good", "  !!  bad", "  --  so",
    ]  # fmt: skip
    assert block("mine", [Finding("ok", "good")]).startswith("preflight of attack mine: fine")
