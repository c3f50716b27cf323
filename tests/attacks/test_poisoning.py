from __future__ import annotations

import pytest
import torch

from attacks.poisoning import choose_pairs, choose_poison, poison
from attacks.triggers import PatchTrigger
from invertune.data.bundle import ImageTextPairs

TEMPLATES = ["a picture of {}", "this is {}"]
TRIGGER = PatchTrigger(4)


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
    assert len(choose_poison(8000, 0.05, seed=0)) == 400


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


def test_poisoned_pairs_replace_clean_ones(pairs: ImageTextPairs) -> None:
    index = torch.tensor([3, 7, 11])
    images, captions = torch.as_tensor(pairs.images).clone(), list(pairs.captions)
    poisoned = poison(pairs, index, TRIGGER, "a lemon", TEMPLATES, seed=0)
    assert len(poisoned) == len(pairs)
    assert poisoned.ids == pairs.ids
    changed = (torch.as_tensor(poisoned.images) != images).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == index.tolist()
    named = [i for i, caption in enumerate(poisoned.captions) if caption != captions[i]]
    assert named == index.tolist()
    assert {poisoned.captions[i] for i in named} <= {t.format("a lemon") for t in TEMPLATES}
    assert torch.equal(poisoned.batch(index), TRIGGER(pairs.batch(index)))
    # The clean pairs stay as they are.
    assert torch.equal(torch.as_tensor(pairs.images), images)
    assert list(pairs.captions) == captions


def test_every_template_is_used(pairs: ImageTextPairs) -> None:
    poisoned = poison(pairs, torch.arange(20), TRIGGER, "a lemon", TEMPLATES, seed=0)
    assert set(poisoned.captions) == {"a picture of a lemon", "this is a lemon"}
