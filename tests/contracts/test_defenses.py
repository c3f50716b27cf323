"""What every defense promises; a defense is tested by its YAML being there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.zero_shot import evaluate_zero_shot
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.defense import NEEDS, Defense, check_needs, check_trainings, given
from invertune.evidence import Evidence
from invertune.training.execution import Execution

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
FOLDER = Path(__file__).parents[2] / "conf" / "defense"
CHOICES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.rglob("*.yaml")
    if path.parent.name != "parts"  # of others
)
every = pytest.mark.parametrize("choice", CHOICES)


@pytest.fixture
def defense(small: Callable[[str, str], Defense], choice: str) -> Defense:
    return small("defense", choice)


def _kind(choice: str) -> str:
    return ("resnet", "vit")[CHOICES.index(choice) % 2]


def _suspects(data: DataBundle) -> Callable[[], ImageTextPairs]:
    return lambda: data.pairs.take(torch.arange(24))


@every
def test_contract(
    defense: Defense, choice: str, taught: Taught, plain: DataBundle, state: State, tmp_path: Path
) -> None:
    model, file = taught(_kind(choice)), tmp_path / "checkpoint.pt"
    before = state(model)
    clean = given(defense, plain, _suspects(plain), lambda: taught(_kind(choice)))
    purified = defense.purify(model, clean, seed=0, checkpoint=file)
    assert _same(state(model), before)
    assert all(weight.requires_grad for weight in model.parameters())
    repaired = state(purified.model)
    assert purified.model is not model
    assert repaired.keys() == before.keys()
    assert all(torch.isfinite(weight).all() for weight in purified.model.parameters())
    assert not purified.model.training
    assert all(weight.requires_grad for weight in purified.model.parameters())
    assert not file.exists()
    torch.rand(7)  # moves the global generator
    # Pictures may be read only where they are looked at.
    lazy = replace(clean, images=clean.images.take(torch.arange(len(clean.images))))
    again = defense.purify(model, lazy, seed=0)
    assert _same(state(again.model), repaired)
    found = evaluate_zero_shot(
        purified.model, plain.zero_shot, plain.prompts, plain.templates, None, None
    )
    assert found.clean.shape == plain.zero_shot.labels.shape
    _check_evidence(purified.evidence, tmp_path)


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _check_evidence(evidence: Evidence, folder: Path) -> None:
    evidence.save(folder)
    read = Evidence.load(folder)
    assert read.identification == evidence.identification
    assert (read.curves, read.seconds) == (evidence.curves, evidence.seconds)
    assert read.findings == evidence.findings
    assert [one.form for one in read.triggers] == [one.form for one in evidence.triggers]
    for one, other in zip(read.triggers, evidence.triggers, strict=True):
        assert _same(one.tensors(), other.tensors())


@every
def test_it_says_what_it_needs_and_is_held_to_it(defense: Defense, plain: DataBundle) -> None:
    assert defense.name
    assert isinstance(defense.knows, str)
    assert defense.needs in NEEDS
    check_needs(defense, plain, poisoned_pairs=True)
    few = replace(
        plain,
        make_clean=lambda: replace(plain.labeled_clean, images=plain.labeled_clean.images[:0],
                                   labels=plain.labeled_clean.labels[:0], ids=[]),
        make_clean_captions=None,
    )  # fmt: skip
    if defense.clean_samples == 0 and defense.needs == "images":
        check_needs(defense, few, poisoned_pairs=False)
        return
    with pytest.raises(ValueError, match=f"defense {defense.name} needs ") as caught:
        check_needs(defense, few, poisoned_pairs=False)
    assert "\n" not in str(caught.value)


@every
def test_what_it_cannot_train_in_parts_is_said_beforehand(
    defense: Defense, choice: str, taught: Taught, plain: DataBundle
) -> None:
    trainings = getattr(defense, "trainings", list)()
    if choice.startswith(("ablation/", "invertune_")) and not trainings:
        return  # trains as InverTune itself does
    model = taught(_kind(choice))
    with Execution(chunk=3).used():
        beforehand = _complaint(lambda: check_trainings(defense, lambda: model, "purify"))
        clean = given(defense, plain, _suspects(plain), lambda: model)
        found = _complaint(lambda: defense.purify(model, clean, seed=0))
    # Its own name stands there in place of the stage's where it trains in several.
    assert beforehand.partition(": ")[2] == found.partition(": ")[2]
    # In one piece everything can be trained.
    assert _complaint(lambda: check_trainings(defense, lambda: model, "purify")) == ""


def _complaint(action: Callable[[], object]) -> str:
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""
