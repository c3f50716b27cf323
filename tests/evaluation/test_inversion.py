from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from evaluation.evaluate import evaluate
from evaluation.intervals import rate
from evaluation.inversion import evaluate_inversion
from invertune.data.bundle import DataBundle, ImageTextPairs, LabeledImages, RetrievalSet
from invertune.perturb.triggers import InvertedTrigger

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]
WORDS = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}


@pytest.fixture
def bundle(pixels: Any) -> DataBundle:
    images = pixels([BLUE, RED, GREEN, GREEN, RED])
    labeled = LabeledImages(images, torch.tensor([2, 0, 1, 1, 0]), list("abcde"))
    captions = [["blue"], ["red"], ["green"], ["green"], ["red"]]
    names = tuple(WORDS)
    return DataBundle(
        "colors", names, names, ("{}",), 2,
        make_pairs=lambda: ImageTextPairs(images, [c[0] for c in captions], list("fghij")),
        make_clean=lambda: labeled,
        make_zero_shot=lambda: labeled,
        make_retrieval=lambda: RetrievalSet(images, captions, list("klmno")),
    )  # fmt: skip


def all_blue(images: Tensor) -> Tensor:
    return torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand_as(images)


def mask_trigger(form: str, share: float, color: list[float]) -> InvertedTrigger:
    mask = torch.full((1, 2, 2), share)
    pattern = torch.tensor(color).view(3, 1, 1).expand(3, 2, 2)
    return InvertedTrigger(form, mask, pattern, torch.zeros(3, 2, 2))


def test_the_best_trigger_is_reported_first_by_asr_then_by_size(
    color_clip: Any, bundle: DataBundle
) -> None:
    weak = mask_trigger("weak", 0.25, [0, 0, 1])
    wide = mask_trigger("wide", 1.0, [0, 0, 1])
    narrow = mask_trigger("narrow", 0.75, [0, 0, 1])
    scores = evaluate_inversion(color_clip(WORDS), bundle, [weak, wide, narrow], all_blue, 2)
    assert scores["images"] == 4
    assert [found["form"] for found in scores["per_trigger"]] == ["weak", "wide", "narrow"]
    assert [found["asr"] for found in scores["per_trigger"]] == [0, 1, 1]
    assert scores["asr"] == 1
    assert scores["mask_share"] == 0.75
    # A quarter of red or green and three quarters of blue: 3 / sqrt(1 + 9).
    assert scores["embedding_cosine"] == pytest.approx(3 / 10**0.5, abs=1e-6)
    assert scores["per_trigger"][1]["embedding_cosine"] == pytest.approx(1)


def test_fewer_images_are_spread_over_the_set(color_clip: Any, bundle: DataBundle) -> None:
    greener = mask_trigger("additive", 0.0, [0, 0, 0])
    scores = evaluate_inversion(color_clip(WORDS), bundle, [greener], all_blue, 1, images=2)
    # Of blue, red and red (other classes than green), the first two.
    assert scores["images"] == 2
    assert scores["embedding_cosine"] == pytest.approx(0.5)


def test_nothing_to_measure_is_an_error(color_clip: Any, bundle: DataBundle) -> None:
    with pytest.raises(ValueError, match="at least one inverted trigger"):
        evaluate_inversion(color_clip(WORDS), bundle, [], all_blue, 2)
    with pytest.raises(ValueError, match="images=0"):
        evaluate_inversion(
            color_clip(WORDS), bundle, [mask_trigger("m", 1, [0, 0, 1])], all_blue, 2, images=0
        )


def test_evaluate_measures_both_parts(color_clip: Any, bundle: DataBundle) -> None:
    scores = evaluate(color_clip(WORDS), bundle, all_blue, 2).scores
    assert scores["zero_shot"]["ca"] == rate(5, 5)
    assert scores["zero_shot"]["asr"] == rate(4, 4)
    assert scores["retrieval"]["asr"] is not None
    assert scores["retrieval"]["asr"]["r@1"] == rate(4, 4)
    assert scores["retrieval"]["image_to_text"]["r@1"] == rate(3, 5)
    clean = evaluate(color_clip(WORDS), bundle, None, None).scores
    assert clean["zero_shot"]["asr"] is None
    assert clean["retrieval"]["asr"] is None
