from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks.poisoning import (
    choose_pairs,
    choose_poison,
    natural_captions,
    poison,
    poison_count,
    select_poison,
    template_captions,
)
from attacks.triggers import PatchTrigger
from invertune.data.bundle import DataBundle, ImageTextPairs

TRIGGER = PatchTrigger(112)


@pytest.fixture
def pairs() -> ImageTextPairs:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageTextPairs(
        images, [f"caption {i}" for i in range(20)], [f"id {i}" for i in range(20)]
    )


@pytest.mark.parametrize("rate", [0, 1, -0.1, 3])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"poison_rate is a share in \(0, 1\), got {rate}"):
        choose_poison(100, rate, seed=0)


def test_a_rate_that_gives_no_sample_names_the_least() -> None:
    with pytest.raises(ValueError, match=r"0\.004 of 100 pairs rounds to 0 .* least is 0\.01"):
        choose_poison(100, 0.004, seed=0)


def test_the_rate_is_the_share_of_all_pairs() -> None:
    assert poison_count(8000, 0.05) == len(choose_poison(8000, 0.05, seed=0)) == 400


def test_no_pair_is_chosen_twice() -> None:
    positions = choose_poison(100, 0.3, seed=0)
    assert positions.unique().tolist() == positions.tolist()  # sorted, too
    assert positions.max() < 100
    chosen = choose_pairs(50, 50, seed=0)
    assert sorted(chosen.tolist()) == list(range(50))


def test_the_seed_alone_chooses() -> None:
    first = choose_poison(100, 0.3, seed=0)
    torch.rand(10)
    assert torch.equal(first, choose_poison(100, 0.3, seed=0))
    assert not torch.equal(first, choose_poison(100, 0.3, seed=1))


@pytest.mark.parametrize("wanted", [0, 51])
def test_more_pairs_than_there_are(wanted: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 50 .* got {wanted}"):
        choose_pairs(50, wanted, seed=0)


# Similarities to three classes; the target is the first one.
#   rank 1 of 3: images 1 (0.1 behind the best class), 4 (0.15 behind) and 2 (0.4 behind)
#   rank 2 of 3: images 3 (0.2 behind) and 5 (0.9 behind); the target is first for 0, 6 and 7
SIMILARITIES = torch.tensor([
    [0.90, 0.10, 0.00], [0.50, 0.60, 0.00], [0.40, 0.80, 0.00], [0.30, 0.50, 0.40],
    [0.10, 0.25, 0.00], [0.00, 0.90, 0.80], [0.95, 0.20, 0.00], [0.99, 0.00, 0.00],
])  # fmt: skip


def _selected(count: int, selection: str, seed: int = 0) -> list[int]:
    return select_poison(SIMILARITIES, torch.eye(3), 0, count, selection, seed).tolist()


@pytest.mark.parametrize(
    ("selection", "count", "expected"),
    [
        ("boundary", 1, [1]),
        ("boundary", 2, [1, 4]),
        ("boundary", 3, [1, 2, 4]),
        ("boundary", 4, [1, 2, 3, 4]),
        ("boundary", 5, [1, 2, 3, 4, 5]),
        ("furthest", 1, [5]),
        ("furthest", 3, [3, 4, 5]),
        ("nearest", 1, [7]),
        ("nearest", 3, [0, 6, 7]),
        ("nearest", 4, [0, 1, 6, 7]),
    ],
)
def test_badclip_selects_by_rank_and_similarity(
    selection: str, count: int, expected: list[int]
) -> None:
    assert _selected(count, selection) == expected


def test_badclip_mixes_a_third_each() -> None:
    # One at the boundary, the furthest one, and one of the others.
    drawn = {tuple(_selected(3, "mixed", seed)) for seed in range(40)}
    assert all({1, 5} < set(chosen) for chosen in drawn)
    assert {(set(chosen) - {1, 5}).pop() for chosen in drawn} == {0, 2, 3, 4, 6, 7}
    # 1 and 4 at the boundary; 4 is also the second furthest, so that 3 takes its place.
    drawn = {tuple(_selected(6, "mixed", seed)) for seed in range(40)}
    assert all({1, 3, 4, 5} < set(chosen) for chosen in drawn)
    assert set().union(*drawn) == set(range(8))


def test_a_random_selection_is_the_seeds() -> None:
    assert _selected(4, "random", 1) == _selected(4, "random", 1)
    drawn = [_selected(4, "random", seed) for seed in range(40)]
    assert set().union(*drawn) == set(range(8))
    assert all(chosen == sorted(set(chosen)) for chosen in drawn)


def test_a_target_is_any_class() -> None:
    chosen = select_poison(SIMILARITIES, torch.eye(3), 2, 2, "nearest", seed=0)
    assert chosen.tolist() == [3, 5]


@pytest.mark.parametrize(
    ("selection", "count", "said"),
    [
        ("closest", 2, "selection is one of random, boundary, furthest, nearest, mixed, got 'clos"),
        ("boundary", 6, "selection=boundary finds 5 images to poison, 6 are wanted"),
        ("random", 9, "selection=random finds 8 images to poison, 9 are wanted"),
    ],
)
def test_a_selection_that_cannot_be_is_named(selection: str, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _selected(count, selection)


def test_poisoned_pairs_replace_clean_ones(pairs: ImageTextPairs) -> None:
    index, named = torch.tensor([3, 11, 7]), ["first", "second", "third"]
    images, captions = pairs.images[:].clone(), list(pairs.captions)
    poisoned = poison(pairs, index, TRIGGER, named)
    assert len(poisoned) == len(pairs)
    assert poisoned.ids == pairs.ids
    changed = (poisoned.images[:] != images).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [3, 7, 11]
    expected = list(captions)
    expected[3], expected[11], expected[7] = named
    assert list(poisoned.captions) == expected
    assert torch.equal(poisoned.batch(index), TRIGGER(pairs.batch(index)))
    # The clean pairs stay as they are.
    assert torch.equal(pairs.images[:], images)
    assert list(pairs.captions) == captions


def test_pairs_that_are_drawn_when_used_are_poisoned_too(pairs: ImageTextPairs) -> None:
    images = pairs.images[:]
    drawn = replace(pairs, images=lambda index: images[index])
    index = torch.tensor([2, 5])
    poisoned, wanted = (poison(p, index, TRIGGER, ["a", "b"]) for p in (drawn, pairs))
    every = torch.arange(20)
    assert torch.equal(poisoned.pictures(every), wanted.pictures(every))


def test_every_poisoned_pair_has_a_caption(pairs: ImageTextPairs) -> None:
    with pytest.raises(ValueError, match="shorter"):
        poison(pairs, torch.tensor([1, 2]), TRIGGER, ["only one"])


def test_every_template_is_used() -> None:
    captions = template_captions(20, "a lemon", ["a picture of {}", "this is {}"], seed=0)
    assert len(captions) == 20
    assert set(captions) == {"a picture of a lemon", "this is a lemon"}
    torch.rand(10)
    assert captions == template_captions(20, "a lemon", ["a picture of {}", "this is {}"], 0)
    assert captions != template_captions(20, "a lemon", ["a picture of {}", "this is {}"], 1)


def test_natural_captions_are_the_datas_own(data: DataBundle) -> None:
    captions = ["a lemon", "Lemon on a plate", "two lemons", "a lemonade", "a red key", "LEMON!"]
    images = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    own = replace(data, make_pairs=lambda: ImageTextPairs(images, captions, list("abcdef")))
    lemon = data.class_names.index("lemon")
    drawn = natural_captions(own, lemon, 50, seed=0)
    assert len(drawn) == 50
    assert set(drawn) == {"a lemon", "Lemon on a plate", "two lemons", "LEMON!"}
    assert drawn == natural_captions(own, lemon, 50, seed=0)
    assert drawn != natural_captions(own, lemon, 50, seed=1)
    with pytest.raises(ValueError, match="no caption of icons names the target 'socks'"):
        natural_captions(own, data.class_names.index("socks"), 1, seed=0)
