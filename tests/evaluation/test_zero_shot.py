from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from evaluation.intervals import rate
from evaluation.zero_shot import NO_PREDICTION, evaluate_zero_shot, predictions
from invertune.data.bundle import LabeledImages

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]
WORDS = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}


def red_to_blue(images: Tensor) -> Tensor:
    return torch.where(images[:, :1] > 0.5, images.flip(1), images)


@pytest.fixture
def labeled(pixels: Any) -> LabeledImages:
    images = pixels([RED, RED, GREEN, BLUE, BLUE, RED])
    return LabeledImages(images, torch.tensor([0, 0, 1, 1, 2, 2]), list("abcdef"))


def test_all_rates_by_hand(color_clip: Any, labeled: LabeledImages) -> None:
    scores = evaluate_zero_shot(
        color_clip(WORDS), labeled, list(WORDS), ["a {}", "{}"], red_to_blue, 2, batch_size=4
    ).rates(2)
    assert scores == {
        "ca": rate(4, 6),  # of all: the blue image of class 1 and the red one of class 2 are wrong
        "asr": rate(3, 4),  # of the first four: two red ones turn blue, one is blue anyway
        "target_rate": rate(1, 4),
        "own_class": rate(1, 4),  # the green one
    }


def test_without_a_trigger_there_is_only_accuracy(color_clip: Any, labeled: LabeledImages) -> None:
    found = evaluate_zero_shot(color_clip(WORDS), labeled, list(WORDS), ["{}"], None, None)
    assert found.triggered.tolist() == [NO_PREDICTION] * 6
    scores = found.rates(None)
    assert scores == {"ca": rate(4, 6), "asr": None, "target_rate": None, "own_class": None}


def test_predictions_stand_beside_the_labels(color_clip: Any, labeled: LabeledImages) -> None:
    found = evaluate_zero_shot(color_clip(WORDS), labeled, list(WORDS), ["{}"], red_to_blue, 2)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.clean.tolist() == [0, 0, 1, 2, 2, 0]
    assert found.triggered.tolist() == [2, 2, 1, 2, NO_PREDICTION, NO_PREDICTION]


def test_images_of_the_target_alone_give_no_asr(color_clip: Any, pixels: Any) -> None:
    only = LabeledImages(pixels([BLUE]), torch.tensor([2]), ["a"])
    found = evaluate_zero_shot(color_clip(WORDS), only, list(WORDS), ["{}"], red_to_blue, 2)
    scores = found.rates(2)
    assert scores["asr"] == rate(0, 0)
    assert scores["ca"] == rate(1, 1)


def test_predictions_go_batch_by_batch(color_clip: Any, pixels: Any) -> None:
    model = color_clip(WORDS)
    images = pixels([RED, GREEN, BLUE, GREEN, RED])
    found = predictions(model, images, torch.eye(3), red_to_blue, batch_size=2)
    assert found.tolist() == [2, 1, 2, 1, 2]
    assert model.batches == [2, 2, 1]


@pytest.mark.parametrize(
    ("trigger", "target", "message"),
    [
        (red_to_blue, None, "go together"),
        (None, 1, "go together"),
        (red_to_blue, 3, r"class in \[0, 3\), got 3"),
    ],
)
def test_wrong_targets_are_refused(
    color_clip: Any, labeled: LabeledImages, trigger: Any, target: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_zero_shot(color_clip(WORDS), labeled, list(WORDS), ["{}"], trigger, target)


def test_a_broken_model_is_not_measured(color_clip: Any, labeled: LabeledImages) -> None:
    def broken(images: Tensor) -> Tensor:
        return torch.full_like(images, torch.nan)

    model = color_clip(WORDS)
    model.encode_image = broken
    with pytest.raises(ValueError, match="not finite"):
        evaluate_zero_shot(model, labeled, list(WORDS), ["{}"], None, None)
