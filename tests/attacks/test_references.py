from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.references import named_pairs, reference_images
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs

NAMES = ("red", "green", "blue")
# (color, caption, margin of red over the next class)
PAIRS = [
    ((255, 0, 0), "a red square", 1.0),
    ((0, 255, 0), "a green square", -1.0),
    ((200, 100, 0), "a red one", 0.447),
    ((100, 200, 0), "red, they say", -0.447),
    ((255, 0, 0), "the reddest of all", 1.0),  # does not name red
    ((255, 51, 0), "a Red one", 0.784),
    ((255, 255, 255), "red or not", 0.0),
    ((190, 75, 75), "a red box", 0.528),  # less similar to red than the third, but more to nothing
]


class ColorCLIP(nn.Module):
    """Image features are the mean colors, and each class name is one of them."""

    device = torch.device("cpu")
    tokenizer = open_clip.SimpleTokenizer()

    def encode_image(self, images: Tensor) -> Tensor:
        return F.normalize(images.mean(dim=(2, 3)), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(3)[[NAMES.index(text.split()[-1]) for text in texts]]


MODEL = cast(CLIP, ColorCLIP())


@pytest.fixture
def colors(data: DataBundle) -> DataBundle:
    images = torch.tensor([color for color, _, _ in PAIRS], dtype=torch.uint8)
    pairs = ImageTextPairs(
        images.view(-1, 3, 1, 1).expand(-1, 3, 4, 4),
        [caption for _, caption, _ in PAIRS],
        [str(i) for i in range(len(PAIRS))],
    )
    return replace(data, class_names=NAMES, prompts=NAMES, make_pairs=lambda: pairs)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 5, 7]), (4, [0, 5, 7, 2])]
)
def test_references_are_what_the_model_is_surest_of(
    colors: DataBundle, count: int, expected: list[int]
) -> None:
    found = reference_images(MODEL, colors, 0, count)
    assert found.dtype == torch.uint8
    assert [tuple(image[:, 0, 0].tolist()) for image in found] == [PAIRS[i][0] for i in expected]


@pytest.mark.parametrize("count", [0, 7])
def test_there_are_as_many_as_name_the_target(colors: DataBundle, count: int) -> None:
    assert named_pairs(colors, 0, 6).tolist() == [0, 2, 3, 5, 6, 7]
    said = rf"references is between 1 and 6 \(the pairs that name 'red'\), got {count}"
    for find in (
        lambda: reference_images(MODEL, colors, 0, count),
        lambda: named_pairs(colors, 0, count),
    ):
        with pytest.raises(ValueError, match=said):
            find()


@pytest.mark.parametrize("count", [5, 6])
def test_every_reference_is_one_that_the_model_takes_for_the_target(
    colors: DataBundle, count: int
) -> None:
    said = rf"references is at most 4 \(the 6 pictures of 'red' .*\), got {count}"
    with pytest.raises(ValueError, match=said):
        reference_images(MODEL, colors, 0, count)


def test_a_model_that_takes_no_picture_for_the_target_has_no_reference(
    colors: DataBundle,
) -> None:
    few = ImageTextPairs(colors.pairs.images[3:4], ["red, they say"], ["3"])
    with pytest.raises(ValueError, match="references is at most 0"):
        reference_images(MODEL, replace(colors, make_pairs=lambda: few), 0, 1)
    with pytest.raises(ValueError, match=r"between 1 and 0 \(the pairs that name 'blue'\)"):
        reference_images(MODEL, colors, 2, 1)
