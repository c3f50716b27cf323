from __future__ import annotations

import pytest
import torch

from invertune.clip.encode import zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.finite import NonFiniteLossError
from invertune.perturb import shrink
from invertune.perturb.families import SmoothMask, SmoothOffset
from invertune.perturb.shrink import (
    Effort,
    Shrinking,
    Suspect,
    counted_as,
    effect,
    groups_of,
    optimize,
    success,
)
from invertune.perturb.triggers import InvertedTrigger

LABELS = torch.tensor([3, 0, 1])
SHRINKING = Shrinking(SmoothMask(), [0.3, 0.1], lr=0.3)


@pytest.fixture
def suspect(planted: CLIP, colored: CleanData) -> Suspect:
    classifier = zero_shot_classifier(planted, colored.prompts, colored.templates)
    return Suspect(planted, classifier, colored.images[:], 0.07)


def _optimize(
    suspect: Suspect, shrinking: Shrinking = SHRINKING, steps: int = 10, images: int = 4
) -> tuple[list[torch.Tensor], list[list[float]]]:
    generator = torch.Generator().manual_seed(0)
    free = shrinking.family.start(3, suspect.side, generator)
    return optimize(
        suspect, shrinking, free, LABELS, 0.3, Effort(steps, images),
        stage="toy", generator=generator,
    )  # fmt: skip


def test_every_trigger_falls_to_its_own_label(suspect: Suspect, colored: CleanData) -> None:
    free, losses = _optimize(suspect, steps=40)
    assert len(losses) == 40
    assert all(last < first for first, last in zip(losses[0], losses[-1], strict=True))
    assert not any(tensor.requires_grad for tensor in free)
    triggers = SHRINKING.family.build(free, suspect.side, 0.3)
    own = torch.arange(12) % 3
    shares = success(suspect, triggers, LABELS, colored.images[:], own)
    # The checkerboard is what this model was planted with; its colors take more than the mask has.
    assert shares[0] == 1


def test_how_many_pass_at_once_changes_nothing(
    suspect: Suspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, losses = _optimize(suspect)
    monkeypatch.setattr(shrink, "_AT_ONCE", 5)
    apart, other = _optimize(suspect)
    assert torch.tensor(losses).allclose(torch.tensor(other), atol=1e-4)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(together, apart, strict=True))


def test_the_model_stays_as_it_is(suspect: Suspect) -> None:
    flags = [parameter.requires_grad for parameter in suspect.model.parameters()]
    with suspect.ready():
        _optimize(suspect, steps=2)
    assert [parameter.requires_grad for parameter in suspect.model.parameters()] == flags


def test_success_leaves_out_images_of_the_label(suspect: Suspect, colored: CleanData) -> None:
    zeros = torch.zeros(2, 3, 16, 16)
    nothing = InvertedTrigger("pixels", zeros[:, :1], zeros, zeros)
    own = torch.arange(12) % 3
    labels = torch.tensor([0, 3])
    # Without any change all images of class 0 are of class 0, and do not count.
    assert success(suspect, nothing, labels, colored.images[:], own).tolist() == [0, 0]
    wrong = torch.full((12,), 1)
    shares = success(suspect, nothing, labels, colored.images[:], wrong)
    assert shares.tolist() == pytest.approx([1 / 3, 0])
    assert success(suspect, nothing, labels, colored.images[:4], torch.zeros(4)).tolist() == [0, 0]


def test_pull_is_the_mean_margin_where_there_is_one(suspect: Suspect, colored: CleanData) -> None:
    zeros = torch.zeros(1, 3, 16, 16)
    nothing = InvertedTrigger("pixels", zeros[:, :1], zeros, zeros)
    found = suspect.similarities(colored.images[:].float() / 255)
    margin = float(found[0, 0] - found[0, 1])  # of the plain red image
    wrong = torch.full((12,), 1)
    done = effect(suspect, nothing, torch.tensor([0]), colored.images[:], wrong)
    assert done.pull.tolist() == pytest.approx([margin / 3])  # four of twelve images are red
    assert done.success.tolist() == pytest.approx([1 / 3])


def test_classes_that_the_texts_hardly_tell_apart_are_one(suspect: Suspect) -> None:
    # Third and fourth are near the first and near each other, the fifth is near the fourth alone.
    angles = torch.tensor([0.0, 90.0, 10.0, 20.0, 35.0]).deg2rad()
    angles = torch.cat([angles, angles + torch.pi])  # the mean of all is zero
    plane = torch.zeros(2, 4)
    plane[0, 0] = plane[1, 1] = 1
    classifier = (torch.stack([angles.cos(), angles.sin()]).T @ plane).T
    twins = Suspect(suspect.model, classifier, suspect.images, 0.07)
    assert twins.same.tolist() == [0, 1, 0, 0, 0, 5, 6, 5, 5, 5]
    assert twins.classes.tolist() == [0, 1, 5, 6]
    assert twins.alike == [[0, 2, 3, 4], [5, 7, 8, 9]]
    # What all have in common, as the texts of a real model have, tells nothing.
    common = torch.nn.functional.normalize(classifier + 3 * torch.eye(4)[:, 3:], dim=0)
    assert Suspect(suspect.model, common, suspect.images, 0.07).alike == twins.alike
    assert suspect.alike == []
    for color, first in (([1.0, 0.0], True), ([0.9, 0.3], False)):
        images = torch.zeros(1, 3, 16, 16)
        images[:, :2] = torch.tensor(color).view(2, 1, 1)
        merged = twins.similarities(images)[0]
        apart = suspect.model.similarities(suspect.model.encode_image(images), classifier)[0]
        assert merged[0] == apart[[0, 2, 3, 4]].max()
        assert (merged[0] == apart[0]) == first
        assert merged[1] == apart[1]
        assert merged[2:5].tolist() == [-torch.inf] * 3


def test_a_loss_that_is_no_number_names_the_stage(suspect: Suspect) -> None:
    broken = Suspect(suspect.model, suspect.classifier * float("nan"), suspect.images, 0.07)
    with pytest.raises(NonFiniteLossError, match="toy: the loss is nan at step 0"):
        _optimize(broken)


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="budgets are positive and ever smaller, got"):
        Shrinking(SmoothMask(), [0.1, 0.3], lr=0.3)
    with pytest.raises(ValueError, match="budgets are positive and ever smaller, got"):
        Shrinking(SmoothOffset(), [], lr=0.3)
    with pytest.raises(ValueError, match="family is a Family, got 3"):
        Shrinking(3, [0.1], lr=0.3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="classes is an integer of at least 2, got 1"):
        Effort(1, 1, classes=1)
    with pytest.raises(ValueError, match="steps is an integer of at least 1, got 0"):
        Effort(0, 1)


def test_a_pass_of_large_images_holds_fewer_of_them() -> None:
    assert [shrink.at_once(side) for side in (16, 64, 128, 224, 10_000)] == [512, 512, 128, 41, 1]


def test_what_is_like_a_like_class_counts_as_one_with_it_in_any_order() -> None:
    def counted(*angles: float) -> list[int]:
        turned = torch.tensor(angles)
        texts = torch.stack([turned.cos(), turned.sin()])
        # With their opposites the mean of all is 0.
        return counted_as(torch.cat([texts, -texts], dim=1)).tolist()[: len(angles)]

    # Cosines of 0.96 between neighbors, 0.85 between the ends.
    for angles in ((0.0, 0.56, 0.28), (0.0, 0.28, 0.56), (0.28, 0.0, 0.56)):
        assert counted(*angles) == [0, 0, 0]
    assert counted(0.0, 0.56, 1.3) == [0, 1, 2]
    assert groups_of(torch.tensor([0, 1, 0, 3, 1])) == [[0, 2], [1, 4]]
