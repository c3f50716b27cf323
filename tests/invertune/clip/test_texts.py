from __future__ import annotations

from collections.abc import Sequence

import open_clip
import pytest

from invertune.clip.texts import Tokenizer, check_apart, check_classes, check_prompts

NAMES, PROMPTS, TEMPLATES = ("apple", "lemon"), ("an apple", "a lemon"), ("a photo of {}.", "{}")


@pytest.fixture(scope="module")
def short() -> Tokenizer:
    """Return CLIP's tokenizer with a context of eight tokens: six besides beginning and end."""
    return open_clip.SimpleTokenizer(context_length=8)


def test_what_differs_and_fits_passes(short: Tokenizer) -> None:
    check_classes(short, NAMES, PROMPTS, TEMPLATES)
    check_apart(short, ["one two three four five six", "six five four three two one"], "prompts")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("apple", "Lemon", "lemon"), "'Lemon' and 'lemon'"),
        (("ice cream", "ice  cream"), "'ice cream' and 'ice  cream'"),
        (("a&b", "a&amp;b"), "'a&b' and 'a&amp;b'"),
    ],
)
def test_names_of_the_same_tokens_are_both_named(
    short: Tokenizer, names: Sequence[str], told: str
) -> None:
    said = f"class names differ in their tokens, but {told} have the same"
    with pytest.raises(ValueError, match=said) as raised:
        check_classes(short, names, [f"a {name}" for name in names], TEMPLATES)
    assert "cut off" not in str(raised.value)


def test_prompts_of_the_same_tokens_are_both_named(short: Tokenizer) -> None:
    said = r"prompts differ .* 'a photo of A lemon\.' and 'a photo of a lemon\.' have the same"
    with pytest.raises(ValueError, match=said):
        check_classes(short, ("lemon", "citrus"), ("A lemon", "a lemon"), TEMPLATES)


def test_a_text_that_is_cut_off_is_named_with_the_length(short: Tokenizer) -> None:
    said = "'one two three four five six seven' is cut off: the model's context holds 8 tokens"
    with pytest.raises(ValueError, match=f"class names are read to their end, but {said}"):
        check_classes(short, ["one two three four five six seven"], ["a number"], TEMPLATES)
    with pytest.raises(ValueError, match=r"prompts .* 'a photo of one two three\.' is cut off"):
        check_prompts(short, ["a lemon", "one two three"], TEMPLATES)
    check_prompts(open_clip.SimpleTokenizer(), ["a lemon", "one two three"], TEMPLATES)


def test_texts_that_differ_only_where_they_are_cut_off_are_both_named(short: Tokenizer) -> None:
    texts = [f"one two three four five six {number}" for number in ("seven", "eight")]
    said = f"'{texts[0]}' and '{texts[1]}' have the same, cut off where the model's context holds 8"
    with pytest.raises(ValueError, match=said):
        check_apart(short, texts, "class names")


def test_a_template_without_a_place_for_the_prompt_is_an_error(short: Tokenizer) -> None:
    with pytest.raises(ValueError, match="takes the class name exactly once"):
        check_prompts(short, PROMPTS, ["a photo"])
    with pytest.raises(ValueError, match="prompts: a class name in a sentence is a text, got 0"):
        check_prompts(short, [0, 1], ["{}"])  # type: ignore[list-item]
