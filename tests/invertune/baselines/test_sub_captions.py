from __future__ import annotations

import pytest
import torch

from invertune.baselines.sub_captions import core, sub_captions


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("caption", "about"),
    [
        ("a picture of a red lemon", "a picture of a lemon"),
        ("an orange umbrella on blue", "an umbrella"),
        ("an orange on a table", "an orange"),  # a fruit, no color
        ("a red ice cream in front of a teal wall", "an ice cream"),
        ("here you can see white socks", "here you can see socks"),
        ("a sign that shows a chess knight", "a sign that shows a chess knight"),
        ("Two dogs, seen from above", "dogs"),
        (
            "Actor attends the premiere of a film at theatre.",
            "actor attends the premiere of a film",
        ),
        ("in front of a house", "in front of a house"),
        ("a picture of it", "a picture of it"),  # nothing is named
        ("red", "red"),
        ("柠檬", "柠檬"),
        ("", ""),
    ],
)
def test_the_core_of_a_caption(caption: str, about: str) -> None:
    assert core(caption) == about


CAPTIONS = ["a picture of a red lemon on a wall", "this is an apple", "here you can see a key"]


def test_a_negative_is_the_caption_about_something_else() -> None:
    found = sub_captions(CAPTIONS, _generator())
    assert found.positive == ["a picture of a lemon", "this is an apple", "here you can see a key"]
    negatives = {
        text for seed in range(30) for text in sub_captions(CAPTIONS, _generator(seed)).negative
    }
    assert negatives == {
        "a picture of a red apple on a wall", "a picture of a red key on a wall",
        "this is a lemon", "this is a key", "here you can see an apple", "here you can see a lemon",
    }  # fmt: skip


def test_any_word_of_a_core_may_be_replaced_and_never_by_one_of_its_own() -> None:
    captions = ["chess knight", "ice cream", "dog"]
    found = [sub_captions(captions, _generator(seed)).negative[0].split() for seed in range(60)]
    words = {"ice", "cream", "dog"}
    assert {(one in words, other in words) for one, other in found} == {
        (True, False),
        (False, True),
    }
    assert {word for both in found for word in both} == {"chess", "knight", *words}


def test_the_generator_alone_decides() -> None:
    first = sub_captions(CAPTIONS * 5, _generator())
    torch.rand(3)  # moves the global generator
    assert sub_captions(CAPTIONS * 5, _generator()) == first
    assert sub_captions(CAPTIONS * 5, _generator(1)).negative != first.negative


def test_where_there_is_no_other_word_nothing_is_told_apart() -> None:
    found = sub_captions(["a dog", "a brown dog", "it is"], _generator())
    assert found.negative == found.positive
    assert found.positive[1] == "a dog"
