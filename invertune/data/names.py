"""Rules for class names, prompts and templates, wherever they come from."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

_UNQUOTED = "; YAML reads 0, 1e3, yes, no, on, off and null as something else, in quotes as text"


def check_text(value: Any, what: str) -> None:
    """Compare a value with what a name or a prompt is: a text of at least one sign.

    Args:
        value: From a YAML or a caller, so that it may be anything.
        what: It is, in messages, such as ``a class name``.

    Raises:
        ValueError: If it is no text, empty, begins or ends with a blank, or has control characters.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is a text, got {value!r:.80}{_UNQUOTED}")
    if not value or value != value.strip() or any(ord(sign) < 32 for sign in value):
        raise ValueError(f"{what} is a text without blanks at its ends, got {value!r:.80}")


def check_list(values: Any, name: str, what: str, least: int = 1) -> None:
    """Compare a field with what a list is: a text is one of its signs, which nobody means.

    Args:
        values: The field.
        name: Of the field.
        what: Its items are, such as ``class names``.
        least: How many there have to be.

    Raises:
        ValueError: If it is no list, or has too few items.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) < least:
        raise ValueError(f"{name} is a list of at least {least} {what}, got {values!r:.80}")


def check_class_names(names: Any, name: str = "class_names") -> None:
    """Compare the class names of a data set with what they are: texts, each one once.

    Raises:
        ValueError: If they are something else; names the first that is wrong.
    """
    check_list(names, name, "class names")
    seen = set()
    for own in names:
        check_text(own, f"{name}: a class name")
        if own in seen:
            raise ValueError(f"{name}: a class name stands there once, got {own!r} twice")
        seen.add(own)


def check_named(values: Any, name: str, what: str) -> None:
    """Compare a field that maps names to something with that.

    Args:
        values: The field.
        name: Of the field.
        what: It maps, such as ``class names to icons``.

    Raises:
        ValueError: If it is no mapping, is empty, or a name in it is no text.
    """
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{name} maps {what}, got {values!r:.80}")
    for own in values:
        check_text(own, f"{name}: a name")


def check_templates(
    templates: Any, name: str = "templates", field: str = "", others: Sequence[str] = ()
) -> None:
    """Compare templates with what they are: texts that take the class name exactly once.

    Args:
        templates: The templates.
        name: Of the field that they stand in.
        field: That takes the class name; empty for ``{}``.
        others: Fields that a template may take besides.

    Raises:
        ValueError: If there is none, or one is something else.
    """
    rule = f"takes the class name exactly once, by {{{field}}}"
    check_list(templates, name, f"templates with {{{field}}}")
    for template in templates:
        if not isinstance(template, str):
            raise ValueError(f"{name}: a template is a text that {rule}, got {template!r:.80}")
        try:
            found = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"{name}: a template {rule}, got {template!r} ({error})") from error
        plain = all(not spec and conversion is None for _, spec, conversion in found)
        taken = [own for own, _, _ in found]
        if not plain or taken.count(field) != 1 or not {*taken} <= {field, *others}:
            more = f", and else only {{{'}, {'.join(others)}}}" if others else ""
            raise ValueError(f"{name}: a template {rule}{more}, got {template!r}")


def check_words(class_names: Any, prompts: Any, templates: Any) -> None:
    """Compare with each other what a zero-shot classifier is made of.

    Args:
        class_names: Of a data set.
        prompts: The class names as they stand in a sentence.
        templates: With ``{}`` for one of ``prompts``.

    Raises:
        ValueError: If one of them is not what it has to be, or a class has no prompt.
    """
    check_class_names(class_names)
    check_list(prompts, "prompts", "texts")
    for prompt in prompts:
        check_text(prompt, "prompts: a class name in a sentence")
    if len(prompts) != len(class_names):
        counts = f"{len(class_names)} class names and {len(prompts)} prompts"
        raise ValueError(f"every class name has one prompt, got {counts}")
    check_templates(templates)
