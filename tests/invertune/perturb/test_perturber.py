from __future__ import annotations

import pytest
import torch

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.perturb.forms import Pixels
from invertune.perturb.perturber import (
    Generator,
    Perturber,
    concentration_objective,
    feature_objective,
)
from invertune.perturb.triggers import InvertedTrigger


def _generator(objective: str = "concentration", clean_gain: float = 0.5) -> Generator:
    return Generator("pixels", Pixels(0.1), objective, 40, 0.1, 6, 2, clean_gain)


def test_objectives_by_hand() -> None:
    eye = torch.eye(2)
    assert feature_objective(eye, eye).item() == 1
    assert feature_objective(eye, eye.flip(0)).item() == 0
    # All in one place: the mean has length 1, half of which is taken off.
    assert concentration_objective(eye[[0, 0]], eye).item() == pytest.approx(0.5 - 0.5)
    spread = 1 - 0.5 * 0.5**0.5
    assert concentration_objective(eye, eye).item() == pytest.approx(spread)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="objective is one of feature, concentration, got 'x'"):
        _generator(objective="x")
    with pytest.raises(ValueError, match=r"clean_gain is a share in \(0, 1\], got 0"):
        _generator(clean_gain=0)


def _perturb(model: CLIP, clean: CleanData, seed: int, start: int) -> InvertedTrigger:
    return _generator().perturb(
        model,
        clean.images[:],
        encode_images(model, clean.images),
        classifier=zero_shot_classifier(model, clean.prompts, clean.templates),
        seed=seed,
        start=start,
    )


def test_images_are_pushed_away_from_where_they_were(planted: CLIP, colored: CleanData) -> None:
    assert isinstance(_generator(), Perturber)
    before = encode_images(planted, colored.images)
    trigger = _perturb(planted, colored, 0, 0)
    after = encode_images(planted, colored.images, trigger=trigger)
    assert (before * after).sum(dim=1).mean() < 0.5
    assert trigger.offset.abs().max() <= 0.1


def test_seed_and_start_alone_decide(planted: CLIP, colored: CleanData) -> None:
    first = _perturb(planted, colored, 0, 0)
    torch.rand(10)
    assert torch.equal(_perturb(planted, colored, 0, 0).offset, first.offset)
    for seed, start in ((1, 0), (0, 1)):
        assert not torch.equal(_perturb(planted, colored, seed, start).offset, first.offset)
