from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from invertune.data.bundle import (
    CleanData,
    DataBundle,
    ImageTextPairs,
    LabeledImages,
    RetrievalSet,
    to_float,
)


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
    with pytest.raises(ValueError, match="sample c is in clean and zero_shot"):
        leaking.check_disjoint()


def test_a_label_is_a_position_in_the_class_list(bundle: DataBundle) -> None:
    assert bundle.label_of("lemon") == 1
    with pytest.raises(ValueError, match="'zebra' is not in the class list of toy: apple, lemon"):
        bundle.label_of("zebra")


def test_the_ids_are_compared_without_a_look_at_any_picture(bundle: DataBundle) -> None:
    def fail(_: Tensor) -> Tensor:
        raise AssertionError("a picture was read")

    blind = replace(
        bundle,
        make_pairs=lambda: ImageTextPairs(fail, ["an apple"], ["a"]),
        make_clean=lambda: LabeledImages(fail, torch.zeros(2).long(), ["b", "c"]),
        make_zero_shot=lambda: LabeledImages(fail, torch.zeros(1).long(), ["d"]),
        make_retrieval=lambda: RetrievalSet(fail, [["an apple"]], ["e"]),
    )
    blind.check_disjoint()
    with pytest.raises(AssertionError, match="a picture was read"):
        blind.zero_shot.images[:1]


def test_ids_that_are_known_do_not_need_their_part(bundle: DataBundle) -> None:
    def fail() -> ImageTextPairs:
        raise AssertionError("a part was made")

    known = replace(bundle, make_pairs=fail, make_ids=lambda part: [f"{part} 0"])
    known.check_disjoint()
    shared = replace(known, make_ids=lambda _: ["x"])
    with pytest.raises(ValueError, match="sample x is in pairs and clean"):
        shared.check_disjoint()


def test_the_defender_sees_no_labels(bundle: DataBundle) -> None:
    names = {field.name for field in fields(bundle.clean)}
    assert names == {"images", "prompts", "class_names", "templates", "captions", "suspects",
                     "origin"}  # fmt: skip
    assert isinstance(bundle.clean, CleanData)
    assert torch.equal(bundle.clean.images[:], bundle.labeled_clean.images[:])
    assert bundle.clean.captions is None
    assert bundle.clean.suspects is None
    assert bundle.clean.origin is None
    with pytest.raises(ValueError, match="given to a defense with needs=pairs only"):
        _ = bundle.clean.pairs


def test_captions_of_the_clean_part_are_given_on_request(bundle: DataBundle) -> None:
    with pytest.raises(ValueError, match="the clean images of toy have no captions"):
        _ = bundle.captioned_clean
    told = replace(bundle, make_clean_captions=lambda: ["an apple", "a lemon"])
    pairs = told.captioned_clean.pairs
    assert list(pairs.captions) == ["an apple", "a lemon"]
    assert torch.equal(pairs.pictures(torch.arange(2)), told.clean.images[:])
    wrong = replace(bundle, make_clean_captions=lambda: ["an apple"])
    with pytest.raises(ValueError, match="has one caption, got 2 images and 1 captions"):
        _ = wrong.captioned_clean


def test_a_part_is_made_once(bundle: DataBundle) -> None:
    assert bundle.pairs is bundle.pairs


def test_every_pair_has_all_three() -> None:
    with pytest.raises(ValueError, match=r"an image, a caption and an id, got counts \[2, 1, 2\]"):
        ImageTextPairs(torch.zeros(2, 3, 2, 2).byte(), ["one"], ["1", "2"])
    with pytest.raises(ValueError, match=r"got counts \[2, 1, 2\]"):
        ImageTextPairs(lambda index: torch.zeros(len(index), 3, 2, 2), ["one"], ["1", "2"])
    with pytest.raises(ValueError, match=r"a label and an id, got counts \[2, 1, 2\]"):
        LabeledImages(torch.zeros(2, 3, 2, 2).byte(), torch.zeros(1), ["1", "2"])


def test_pairs_are_taken_in_the_given_order() -> None:
    images = torch.arange(4).byte().view(4, 1, 1, 1).expand(4, 3, 2, 2)
    pairs = ImageTextPairs(lambda index: images[index], list("abcd"), list("0123"))
    taken = pairs.take(torch.tensor([2, 0]))
    assert taken.images[:][:, 0, 0, 0].tolist() == [2, 0]
    assert (list(taken.captions), list(taken.ids)) == (["c", "a"], ["2", "0"])


def test_images_become_shares() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )


def test_some_of_the_clean_images_keep_their_captions(data: DataBundle) -> None:
    clean = replace(data.clean, captions=[f"picture {i}" for i in range(len(data.clean.images))])
    few = clean.take(torch.tensor([4, 1]))
    assert torch.equal(few.images[:], clean.images[torch.tensor([4, 1])])
    assert few.captions == ["picture 4", "picture 1"]
    assert (few.prompts, few.templates) == (clean.prompts, clean.templates)
    assert data.clean.take(torch.tensor([0])).captions is None
