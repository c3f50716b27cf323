from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from invertune.data.bundle import (
    CleanData,
    DataBundle,
    ImageTextPairs,
    LabeledImages,
    RetrievalSet,
    to_float,
)
from invertune.seeds import seeded


def _labeled(*ids: str) -> LabeledImages:
    return LabeledImages(torch.zeros(len(ids), 3, 2, 2).byte(), torch.zeros(len(ids)).long(), ids)


@pytest.fixture
def bundle() -> DataBundle:
    images = torch.zeros(1, 3, 2, 2).byte()
    return DataBundle(
        name="toy",
        class_names=("apple", "lemon"),
        prompts=("an apple", "a lemon"),
        templates=("{}",),
        image_size=2,
        make_pairs=lambda: ImageTextPairs(images, ["an apple"], ["a"]),
        make_clean=lambda: _labeled("b", "c"),
        make_zero_shot=lambda: _labeled("d"),
        make_retrieval=lambda: RetrievalSet(images, [["an apple"]], ["e"]),
    )


def test_disjoint_parts_pass(bundle: DataBundle) -> None:
    bundle.check_disjoint()


def test_a_shared_sample_is_an_error(bundle: DataBundle) -> None:
    leaking = replace(bundle, make_zero_shot=lambda: _labeled("d", "c"))
    with pytest.raises(ValueError, match="sample c is in labeled_clean and zero_shot"):
        leaking.check_disjoint()


def test_a_label_is_a_position_in_the_class_list(bundle: DataBundle) -> None:
    assert bundle.label_of("lemon") == 1
    with pytest.raises(ValueError, match="'zebra' is not in the class list of toy: apple, lemon"):
        bundle.label_of("zebra")


def test_the_defender_sees_no_labels(bundle: DataBundle) -> None:
    assert set(vars(bundle.clean)) == {"images", "prompts", "class_names", "templates"}
    assert isinstance(bundle.clean, CleanData)
    assert torch.equal(bundle.clean.images, bundle.labeled_clean.images)


def test_a_part_is_made_once(bundle: DataBundle) -> None:
    assert bundle.pairs is bundle.pairs


def test_every_pair_has_all_three() -> None:
    with pytest.raises(ValueError, match=r"an image, a caption and an id, got counts \[1, 2, 2\]"):
        ImageTextPairs(torch.zeros(2, 3, 2, 2).byte(), ["one"], ["1", "2"])
    with pytest.raises(ValueError, match=r"counts \[1, 2\]"):
        ImageTextPairs(lambda index: torch.zeros(len(index), 3, 2, 2), ["one"], ["1", "2"])


def test_pairs_are_taken_in_the_given_order() -> None:
    images = torch.arange(4).byte().view(4, 1, 1, 1).expand(4, 3, 2, 2)
    pairs = ImageTextPairs(lambda index: images[index], list("abcd"), list("0123"))
    taken = pairs.take(torch.tensor([2, 0]))
    assert torch.as_tensor(taken.images)[:, 0, 0, 0].tolist() == [2, 0]
    assert (list(taken.captions), list(taken.ids)) == (["c", "a"], ["2", "0"])


def test_images_become_shares() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )


def test_every_list_of_names_has_its_own_generator() -> None:
    first = torch.rand(3, generator=seeded(0, "a", 1))
    assert torch.equal(first, torch.rand(3, generator=seeded(0, "a", 1)))
    for other in (seeded(1, "a", 1), seeded(0, "b", 1), seeded(0, "a", 2)):
        assert not torch.equal(first, torch.rand(3, generator=other))
