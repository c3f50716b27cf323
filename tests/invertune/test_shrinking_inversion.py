from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.perturb.families import Family, SmoothMask, SmoothWarp
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking
from invertune.perturb.triggers import InvertedTrigger
from invertune.shrinking_inversion import ShrinkingInversion

INVERT = ShrinkingInversion(
    forms=[
        Shrinking(SmoothMask(), [0.5, 0.3, 0.2], lr=0.3),
        Shrinking(SmoothWarp(), [0.1], lr=0.1),
    ],
    effort=Effort(15, 4), kept=2, starts=2, images=6, held=6, temperature=0.07, least_success=0.5,
    refreshing=Effort(15, 4),
)  # fmt: skip


def test_triggers_that_succeed_are_kept_best_first(planted: CLIP, colored: CleanData) -> None:
    triggers, curves = INVERT(planted, colored, 3, seed=0)
    # A warp of plain images changes nothing.
    assert {trigger.form for trigger in triggers} == {"mask"}
    assert 1 <= len(triggers) <= 4
    assert set(curves) == {
        f"invert {form} {start}" for form in ("mask", "warp") for start in (0, 1)
    }
    assert [len(curves[f"invert {form} 0"]) for form in ("mask", "warp")] == [45, 15]
    images = colored.images[:] / 255
    sent = [
        (planted.encode_image(trigger(images)).argmax(dim=1) == 3).float().mean()
        for trigger in triggers
    ]
    assert sent[0] > 0.9
    for trigger in triggers:
        assert trigger.mask.shape == (1, 16, 16)
        assert not trigger.pattern.requires_grad
        assert trigger.mask.mean() <= 0.3 + 1e-6


def test_all_are_kept_without_a_bar(planted: CLIP, colored: CleanData) -> None:
    every = dataclasses.replace(INVERT, least_success=0.0)
    triggers, _ = every(planted, colored, 3, seed=0)
    assert sorted(trigger.form for trigger in triggers) == ["mask"] * 4 + ["warp"] * 2
    masses = {round(float(trigger.mask.mean()), 1) for trigger in triggers}
    assert len(masses) > 1  # triggers of more than one budget
    last = dataclasses.replace(every, kept=1)(planted, colored, 3, seed=0)[0]
    assert len(last) == 4


def test_triggers_are_optimized_further_where_they_are(planted: CLIP, colored: CleanData) -> None:
    weak = dataclasses.replace(INVERT, least_success=0.0, effort=Effort(1, 4))
    triggers, _ = weak(planted, colored, 3, seed=0)
    images = colored.images[:] / 255

    def sent(trigger: InvertedTrigger) -> float:
        return float(planted.encode_image(trigger(images)).softmax(dim=1)[:, 3].mean().detach())

    before = {name: value.clone() for name, value in planted.state_dict().items()}
    fresh = weak.refresh(planted, colored, triggers, seed=0, stage="refresh")
    assert all(torch.equal(before[name], value) for name, value in planted.state_dict().items())
    assert [trigger.form for trigger in fresh] == [trigger.form for trigger in triggers]
    for old, new in zip(triggers, fresh, strict=True):
        for kept in ("label", "budget"):
            assert torch.equal(old.origin[kept], new.origin[kept])
        if old.form == "mask":
            assert new.mask.mean() == pytest.approx(float(old.mask.mean()), rel=0.3)
            assert sent(new) > sent(old)
    # What was saved goes on as what was not.
    loaded = [InvertedTrigger.of(trigger.form, trigger.tensors()) for trigger in triggers]
    again = weak.refresh(planted, colored, loaded, seed=0, stage="refresh")
    assert all(torch.equal(a.pattern, b.pattern) for a, b in zip(fresh, again, strict=True))


def test_a_backdoor_that_answers_to_anything_of_a_kind_is_shown_by_random_probes(
    planted: CLIP, colored: CleanData, laid: Callable[..., Family]
) -> None:
    # A checkerboard, either way around, sends images to class 3; plain light does not.
    checkers = Probe(laid(), [0.5, 0.3, 0.001], draws=2)
    plain = Probe(laid(cell=16, name="plain"), [0.5, 0.3], draws=2)
    tried = dataclasses.replace(INVERT, probes=[checkers, plain])
    triggers, curves = tried(planted, colored, 3, seed=0)
    # Those of the smallest budget at which they succeed, and none of the kind that does not.
    assert [trigger.form for trigger in triggers] == ["checkers"] * 2
    assert [float(trigger.mask.max()) for trigger in triggers] == pytest.approx([0.3, 0.3])
    assert len(curves) == 4
    fresh = tried.refresh(planted, colored, triggers, seed=0, stage="refresh")
    assert fresh == []  # nobody optimized them
    without = dataclasses.replace(INVERT, probes=[plain])(planted, colored, 3, seed=0)[0]
    assert {trigger.form for trigger in without} == {"mask"}


def test_triggers_of_others_are_not_optimized_further(planted: CLIP, colored: CleanData) -> None:
    zeros = torch.zeros(3, 16, 16)
    foreign = InvertedTrigger("advclip", zeros[:1], zeros, zeros, origin={"label": torch.tensor(3)})
    with pytest.raises(ValueError, match="triggers are of mask, warp, got advclip"):
        INVERT.refresh(planted, colored, [foreign], seed=0, stage="refresh")
    with pytest.raises(ValueError, match="warp cannot go on with a trigger of advclip"):
        INVERT.forms[1].origin([foreign])


def test_the_seed_alone_decides(planted: CLIP, colored: CleanData) -> None:
    first = INVERT(planted, colored, 3, seed=0)
    torch.rand(10)
    again, other = INVERT(planted, colored, 3, seed=0), INVERT(planted, colored, 3, seed=1)
    assert first[1] == again[1] != other[1]
    assert torch.equal(first[0][0].mask, again[0][0].mask)


def test_what_makes_no_sense() -> None:
    for changes, message in (
        ({"forms": []}, "inversion has at least one form"),
        ({"effort": 3}, "effort is a Effort, got 3"),
        ({"starts": 0}, "starts is an integer of at least 1, got 0"),
        ({"kept": 0}, "kept is an integer of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(INVERT, **changes)
