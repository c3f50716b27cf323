from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.defense import NoDefense
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
        divergence={"layer4": 0.5},
        tuned_layers=["layer4"],
        neurons={"layer4": [3, 10]},
        curves={"tune total": [1.0, 0.5]},
        seconds={"tune": 0.1},
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


def test_no_defense_returns_a_copy(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    model = tiny("vit")
    purified = NoDefense().purify(model, data.clean, seed=0)
    assert purified.model is not model
    before, after = model.state_dict(), purified.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert purified.evidence == Evidence()
