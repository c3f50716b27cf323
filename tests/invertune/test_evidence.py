from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from invertune.evidence import Evidence, Identification, Vote
from invertune.perturb.triggers import InvertedTrigger


def _trigger(form: str, seed: int) -> InvertedTrigger:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 4, 4, generator=generator)
    pattern, offset = torch.rand(2, 3, 4, 4, generator=generator)
    return InvertedTrigger(form, mask, pattern, offset)


def test_evidence_is_read_as_it_was_written(tmp_path: Path) -> None:
    vote = Vote("patch", [0.5, 0.5], [0.9, 0.1], 2.0)
    written = Evidence(
        identification=Identification(0, 0.4, 1, -0.4, [vote]),
        triggers=[_trigger("mask", 0), _trigger("pixels", 1)],
        curves={"tune total": [1.0, 0.5]},
        seconds={"tune": 0.1},
        findings={
            "divergence": {"layer4": 0.5},
            "tuned_layers": ["layer4"],
            "neurons": {"layer4": [3, 10]},
            "distance": 0.25,
            "share": [0.1, 0.9],
        },
    )
    written.save(tmp_path)
    read = Evidence.load(tmp_path)
    assert {**vars(read), "triggers": 0} == {**vars(written), "triggers": 0}
    for one, other in zip(read.triggers, written.triggers, strict=True):
        assert one.form == other.form
        saved, meant = one.tensors(), other.tensors()
        assert all(torch.equal(saved[name], meant[name]) for name in meant)


def test_no_evidence_is_read_as_none(tmp_path: Path) -> None:
    Evidence().save(tmp_path)
    assert Evidence.load(tmp_path) == Evidence()


def test_findings_stand_beside_the_rest_by_their_names(tmp_path: Path) -> None:
    Evidence(findings={"divergence": {"layer4": 0.5}, "tuned_layers": ["layer4"]}).save(tmp_path)
    plain = json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))
    assert plain["divergence"] == {"layer4": 0.5}
    assert plain["tuned_layers"] == ["layer4"]
    assert plain["identification"] is None
    assert plain["triggers"] == []


def test_a_finding_has_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="findings have names of their own, got curves, seconds"):
        Evidence(findings={"curves": [], "seconds": 1.0, "mine": 2.0})


@pytest.mark.parametrize("value", [torch.zeros(2), float("nan"), float("inf"), {1, 2}])
def test_what_no_file_can_hold_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="evidence holds finite numbers and texts: ") as caught:
        Evidence(findings={"mine": value}).save(tmp_path)  # type: ignore[dict-item]
    assert "\n" not in str(caught.value)


def test_a_gain_is_what_the_perturbation_adds() -> None:
    assert Vote("patch", [0.5, 0.25, 0.25], [0.125, 0.75, 0.125], 1.0).gain == [-0.375, 0.5, -0.125]


def test_a_trigger_says_itself_which_tensors_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(self: InvertedTrigger) -> dict[str, Tensor]:
        return {"offset": self.offset, "pattern": self.pattern, "mask": self.mask + 1}

    monkeypatch.setattr(InvertedTrigger, "tensors", other)
    Evidence(triggers=[_trigger("mask", 0)]).save(tmp_path)
    assert torch.equal(Evidence.load(tmp_path).triggers[0].mask, _trigger("mask", 0).mask + 1)
