from __future__ import annotations

from typing import Any

import pytest

from invertune.data.names import (
    check_class_names,
    check_list,
    check_named,
    check_templates,
    check_text,
    check_words,
)


@pytest.mark.parametrize("name", ["lemon", "ice cream", "0", "ViT-B/32", "苹果", "+"])
def test_any_text_is_a_name(name: str) -> None:
    check_text(name, "a class name")


@pytest.mark.parametrize("value", [0, True, None, 1.5, ["lemon"]])
def test_what_yaml_reads_as_no_text_is_said_to_be_quoted(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"a class name is a text, got .*; YAML reads .* in quotes"
    ):
        check_text(value, "a class name")


@pytest.mark.parametrize("value", ["", " ", " lemon", "lemon\n", "a\tlemon", "a\x1b[2J"])
def test_a_name_has_no_blanks_at_its_ends_and_no_control_characters(value: str) -> None:
    with pytest.raises(ValueError, match="a class name is a text without blanks at its ends, got"):
        check_text(value, "a class name")


def test_a_text_is_no_list_of_its_signs() -> None:
    check_list((), "plurals", "class names", least=0)
    check_list(["a"], "templates", "texts")
    for value in ("a photo of {}", None, {}, [], 3):
        with pytest.raises(ValueError, match="templates is a list of at least 1 texts, got"):
            check_list(value, "templates", "texts")


def test_a_class_stands_there_once() -> None:
    check_class_names(["apple", "Apple", "lemon"])  # whether a model tells them apart is its own
    with pytest.raises(ValueError, match=r"class_names: .* once, got 'apple' twice"):
        check_class_names(["apple", "lemon", "apple"])
    with pytest.raises(ValueError, match="classes: a class name is a text, got 1"):
        check_class_names(["apple", 1], "classes")


@pytest.mark.parametrize("value", [["apple"], "apple", None, {}])
def test_names_of_something_are_a_mapping(value: Any) -> None:
    with pytest.raises(ValueError, match="classes maps class names to icons, got"):
        check_named(value, "classes", "class names to icons")


def test_names_in_a_mapping_are_texts() -> None:
    check_named({"apple": "apple-whole"}, "classes", "class names to icons")
    with pytest.raises(ValueError, match="classes: a name is a text, got False; YAML reads"):
        check_named({"apple": 1, False: "skull"}, "classes", "class names to icons")


@pytest.mark.parametrize("template", ["{}", "a photo of {}.", "{{x}} {}", "{} on the left"])
def test_a_template_takes_the_class_name_once(template: str) -> None:
    check_templates([template])


@pytest.mark.parametrize(
    "template",
    ["a photo", "a photo of a {{}}.", "a photo of a {c}.", "a set {1, 2} of {}", "{} and {}", "{0}",
     "{!r}", "{:>9}", "{} of {c}", "{", "}", "", "{}{", 3, None],
)  # fmt: skip
def test_any_other_template_is_named(template: Any) -> None:
    with pytest.raises(ValueError, match=r"takes the class name exactly once, by \{\}") as raised:
        check_templates(["{}", template])
    assert repr(template) in str(raised.value)


def test_fields_of_ones_own_are_the_choices() -> None:
    check_templates(["{object} on {ground}", "{object}"], "plain", "object", ["ground"])
    with pytest.raises(ValueError, match=r"plain: .* by \{object\}, and else only \{ground\}, got"):
        check_templates(["{object} on {wall}"], "plain", "object", ["ground"])


def test_every_class_has_a_prompt() -> None:
    check_words(["apple", "lemon"], ["an apple", "a lemon"], ["{}"])
    with pytest.raises(ValueError, match="one prompt, got 2 class names and 1 prompts"):
        check_words(["apple", "lemon"], ["an apple"], ["{}"])
    with pytest.raises(ValueError, match="prompts: a class name in a sentence is a text, got 7"):
        check_words(["apple", "lemon"], ["an apple", 7], ["{}"])
    with pytest.raises(ValueError, match=r"templates is a list of .* got 'a photo of {}'"):
        check_words(["apple", "lemon"], ["an apple", "a lemon"], "a photo of {}")
