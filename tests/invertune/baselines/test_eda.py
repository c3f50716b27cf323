from __future__ import annotations

from collections import Counter

import pytest
import torch

from invertune.baselines.eda import EDA, enriched, letters, replaced, swapped, thinned

PLAIN = EDA(alpha=0.1, deletion=0.1)
TEXTS = ["A red lemon on a blue background", "an ice-cream", "lemon", "this isn't a key!"] * 20


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_generator_alone_decides() -> None:
    first = PLAIN(TEXTS, _generator())
    torch.rand(5)  # moves the global generator
    assert PLAIN(TEXTS, _generator()) == first
    assert PLAIN(TEXTS, _generator(1)) != first


def test_only_small_letters_are_left() -> None:
    said = "This ISN'T an ice-cream, no. 3: it\u2019s\ta\nkey!"
    assert letters(said) == "this isnt an ice cream no its a key"
    assert all(
        set(text) <= set("abcdefghijklmnopqrstuvwxyz ") for text in PLAIN(TEXTS, _generator())
    )


def test_swaps_and_deletions_bring_in_no_word_and_never_leave_none() -> None:
    thin = EDA(alpha=0.1, deletion=1.0)
    for augment in (PLAIN, thin):
        for text, changed in zip(TEXTS, augment(TEXTS, _generator()), strict=True):
            own, found = Counter(letters(text).split()), Counter(changed.split())
            assert found <= own
            assert found.total() >= 1
    assert {len(text.split()) for text in thin(TEXTS[:1] * 20, _generator())} == {1, 7}


def test_a_text_without_letters_stays_as_it_is() -> None:
    assert PLAIN(["柠檬", "", "!?"], _generator()) == ["柠檬", "", "!?"]


def test_both_operations_are_drawn_about_half_of_the_time() -> None:
    changed = EDA(alpha=0.1, deletion=1.0)(["one two three four"] * 400, _generator())
    swaps = sum(len(text.split()) == 4 for text in changed)
    assert 160 < swaps < 240


def test_a_swap_changes_two_places() -> None:
    words = ["a", "b", "c", "d", "e"]
    once = swapped(words, 1, _generator())
    assert sorted(once) == words
    assert sum(one != other for one, other in zip(words, once, strict=True)) == 2
    assert swapped(["a", "b"], 1, _generator()) == ["b", "a"]
    assert swapped(["a", "b"], 2, _generator()) == ["a", "b"]
    assert swapped(["a"], 3, _generator()) == ["a"]
    assert words == ["a", "b", "c", "d", "e"]


def test_deletion_drops_the_share_that_it_says() -> None:
    words = [str(i) for i in range(2000)]
    kept = thinned(words, 0.1, _generator())
    assert 1740 < len(kept) < 1860
    assert kept == sorted(kept, key=int)
    assert thinned(words, 0.0, _generator()) == words


SYNONYMS = {"red": ["crimson"], "key": ["latchkey"]}


def test_synonyms_replace_every_place_of_a_word() -> None:
    words = ["a", "red", "red", "key"]
    assert replaced(words, 5, SYNONYMS, _generator()) == ["a", "crimson", "crimson", "latchkey"]
    once = replaced(words, 1, SYNONYMS, _generator())
    assert once in (["a", "crimson", "crimson", "key"], ["a", "red", "red", "latchkey"])
    assert replaced(["a"], 1, SYNONYMS, _generator()) == ["a"]


def test_synonyms_are_put_in_anywhere() -> None:
    words = ["a", "red", "key"]
    found = [enriched(words, 2, SYNONYMS, _generator(seed)) for seed in range(30)]
    assert all(len(one) == 5 for one in found)
    assert all([word for word in one if word in words] == words for one in found)
    assert {word for one in found for word in one} == {*words, "crimson", "latchkey"}
    assert {one.index("crimson") for one in found if "crimson" in one} >= {0, 1, 2, 3}
    assert enriched(["a"], 1, SYNONYMS, _generator()) == ["a"]


def test_with_synonyms_all_four_operations_are_drawn() -> None:
    changed = EDA(0.1, 1.0, SYNONYMS)(["a red key"] * 200, _generator())
    lengths = Counter(len(text.split()) for text in changed)
    assert set(lengths) == {1, 3, 4}
    assert all(35 < lengths[count] < 65 for count in (1, 4))
    assert sum("crimson" in text or "latchkey" in text for text in changed) > 70


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0}, r"alpha is a share in \(0, 1\], got 0"),
        ({"deletion": 1.5}, r"deletion is a share in \[0, 1\], got 1.5"),
        ({"alpha": "some"}, "alpha is a number, got 'some'"),
        ({"synonyms": ["red"]}, r"synonyms maps words to lists of words, got \['red'\]"),
        ({"synonyms": {"red": "crimson"}}, "synonyms.red is a list of at least 1 words"),
        ({"synonyms": {"red": []}}, r"synonyms.red is a list of at least 1 words, got \[\]"),
    ],
)
def test_what_makes_no_sense_is_said(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EDA(**{"alpha": 0.1, "deletion": 0.1, **fields})  # type: ignore[arg-type]
