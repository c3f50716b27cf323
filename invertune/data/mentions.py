"""Which captions name a class: by whole words, in singular or plural, and by the longest name."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# Scripts that put no blanks between words: Thai to Khmer, Chinese, Japanese and Korean.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f"
    "\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs inside a word that Python takes for none: accents on their own, vowels of Indic scripts.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_WORD = rf"(?:[^\W{_UNSPACED}]|[{_MARKS}])"
_BEFORE, _AFTER = rf"(?<!{_WORD})", rf"(?!{_WORD})"
_FREE = re.compile(f"[{_UNSPACED}]")
_BLANKS = re.compile(r"\s+|(?<=\w)-(?=\w)")  # "ice-cream" is ice cream

# One sign each for what reads as a hyphen or as a blank.
_ALIKE = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-") | {"_": " "})


def mentions(
    captions: Sequence[str], name: str, names: Sequence[str] = (), plurals: Sequence[str] = ()
) -> Tensor:
    """Return which captions name a class, (T,) bool.

    A name stands as whole words, in any case, in singular or plural; in scripts without blanks it
    stands anywhere. Where a longer name of another class holds it, that one is named: "bell pepper"
    is no bell.

    Args:
        captions: T captions.
        name: The class's.
        names: All class names.
        plurals: Those that are plurals themselves, whose singular counts too.
    """
    shared, pattern = _finder(name, tuple(names), tuple(plurals))
    named = {}
    for caption in dict.fromkeys(captions):  # they repeat a lot
        text = _folded(caption)
        found = shared in text and any(own.lastindex for own in pattern.finditer(text))
        named[caption] = found
    return torch.tensor([named[caption] for caption in captions], dtype=torch.bool)


@functools.lru_cache(maxsize=1 << 17)  # every class is looked for in the same captions
def _folded(text: str) -> str:
    """Return the text with one spelling for what reads alike."""
    return unicodedata.normalize("NFKC", text).translate(_ALIKE).casefold()


@functools.lru_cache(maxsize=1 << 14)
def _forms(name: str, plural: bool) -> dict[str, bool]:
    """Return the forms of a name, and of each whether it is the name itself."""
    exact = _folded(name)
    inflected = _plurals(exact) + (_singulars(exact) if plural else [])
    return {**dict.fromkeys(map(_folded, inflected), False), exact: True}


# Where English has several forms, or a library is not sure, all are taken: what is no word is in no
# caption.
def _plurals(noun: str) -> list[str]:
    if not noun[-1:].isalpha():
        return []
    found = [engine.plural_noun(noun) for engine in _engines()]  # cactuses, cacti
    return [form for form in found if form] + ([noun[:-2] + "i"] if noun[-2:] == "us" else [])


def _singulars(noun: str) -> list[str]:
    found = [engine.singular_noun(noun) for engine in _engines()]
    latin = [noun[:-4] + ending for ending in ("ix", "ex")] if noun[-4:] == "ices" else []
    return [form for form in found if form] + latin


@functools.cache
def _engines() -> tuple[Any, Any]:
    """Return what knows the plurals of everyday English, and of the English of scholars."""
    import inflect  # few commands look into captions

    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)
    return modern, classical


def _pattern(form: str) -> str:
    """Return what finds a form as whole words."""
    words = [re.escape(word) for word in _BLANKS.split(form)]
    before = "" if _FREE.match(form[:1]) else _BEFORE
    after = "" if _FREE.match(form[-1:]) else _AFTER
    return before + r"[\s-]+".join(words) + after


@functools.lru_cache(maxsize=4096)
def _finder(
    name: str, names: tuple[str, ...], plurals: tuple[str, ...]
) -> tuple[str, re.Pattern[str]]:
    """Return what every mention begins with, and what finds mentions: those of ``name`` in a group.

    Longer names of other classes are found too, outside the group, so that they are passed over.
    """
    own = _forms(name, name in plurals)
    shared = _beginning([_BLANKS.split(form)[0] for form in own])
    inside = re.compile("|".join(map(_pattern, own)))
    found = [(form, True) for form in own]
    for form, exact in _others(name, names, plurals):
        # Of equal forms a class's very name wins: glasses are no plural where they are a class.
        equal = form in own and exact and not own[form]
        longer = form not in own and shared in form and inside.search(form) is not None
        if equal or longer:
            found.append((form, False))
    found.sort(key=lambda item: (-len(item[0]), item[1]))
    parts = [f"({_pattern(form)})" if mine else _pattern(form) for form, mine in found]
    return shared, re.compile("|".join(parts))


def _beginning(words: Sequence[str]) -> str:
    """Return what all of the words begin with."""
    both = zip(min(words), max(words), strict=False)
    return "".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))


def _others(
    name: str, names: tuple[str, ...], plurals: tuple[str, ...]
) -> Iterator[tuple[str, bool]]:
    """Yield the forms of the other classes, and of each whether it is the name itself."""
    for other in names:
        if _folded(other) != _folded(name):
            yield from _forms(other, other in plurals).items()
