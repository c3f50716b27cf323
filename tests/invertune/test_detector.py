from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, ImageTextPairs
from invertune.detector import (
    Detection,
    check_detector,
    chosen_images,
    given_to_detector,
)
from invertune.evidence import Evidence


@dataclass(frozen=True)
class OfModels:
    name: str = "mine"
    needs: str = "images"
    clean_samples: int = 4
    knows: str = "nothing"

    def detect(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Detection:
        raise NotImplementedError


@dataclass(frozen=True)
class OfPairs:
    name: str = "mine"
    needs: str = "poisoned_pairs"
    clean_samples: int = 0
    knows: str = "nothing"

    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize(("score", "flagged"), [(0.4, False), (0.5, False), (0.51, True)])
def test_a_model_above_the_threshold_is_flagged(score: float, flagged: bool) -> None:
    assert Detection(score, 0.5, Evidence()).flagged == flagged


@pytest.mark.parametrize("numbers", [(float("nan"), 1.0), (1.0, float("inf"))])
def test_numbers_are_finite(numbers: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a detection has a finite score and threshold, got"):
        Detection(*numbers, Evidence())


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (OfModels(clean_samples=13), "detector mine needs 13 clean images, plain has 12: take few"),
        (OfModels(needs="poisoned_pairs"), "needs is poisoned_pairs for one that scores pairs, an"),
        (OfModels(needs="labels"), "detector mine: needs is one of images, pairs, poisoned_pairs"),
        (OfPairs(needs="images"), "for one that scores pairs, and images or pairs for one of mod"),
        (OfPairs(), "detector mine needs poisoned_pairs, but the attack trains on no pairs: mine"),
        (3, "detector int can neither detect nor score pairs: it is no detector"),
    ],
)
def test_what_it_needs_is_compared_with_what_there_is(
    detector: Any, said: str, plain: DataBundle
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_detector(detector, plain, poisoned_pairs=False)
    assert "\n" not in str(caught.value)


def test_it_is_given_no_more_than_it_needs(plain: DataBundle) -> None:
    assert given_to_detector(OfModels(), plain).captions is None
    assert given_to_detector(OfModels(needs="pairs"), plain).captions is not None
    check_detector(OfPairs(), plain, poisoned_pairs=True)


def test_fewer_images_are_among_more() -> None:
    many, few = (chosen_images("mine", 20, count, seed=3) for count in (20, 5))
    assert torch.equal(many[:5], few)
    assert sorted(many.tolist()) == list(range(20))
    assert not torch.equal(few, chosen_images("mine", 20, 5, seed=4))
    with pytest.raises(ValueError, match="detector mine needs 21 clean images, got 20"):
        chosen_images("mine", 20, 21, seed=3)
