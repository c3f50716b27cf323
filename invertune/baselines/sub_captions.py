"""Sub-captions made of words alone: what a caption is about, and the same caption about another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from invertune.data.captions import with_article


def _these(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that name nothing.
_SMALL = _these(
    """a an the this that these those some any each every another other no one it its he him his she
    her they them their we us our you your i me my who which what where when there here is are was
    were be been being am has have had having do does did can could will would may might must should
    not and or but so as if than then of to see seen show shows shown showing"""
)
# Words that a detail begins with: where something is, with what, or how it is meant.
_TURNS = _these(
    """on in at by with without from into onto over under above below behind beside between near
    against along across around through during before after inside outside while for toward towards
    upon within among front"""
)
# What is said of a picture, not of what it shows.
_PICTURES = _these(
    """picture pictures photo photos photograph photographs image images drawing drawings painting
    paintings illustration illustrations sketch sketches icon icons pictogram pictograms sign signs
    view views shot shots portrait portraits closeup close-up rendering cartoon poster"""
)
# Adjectives where another word follows that names something.
_DETAILS = _these(
    """red orange yellow green teal blue purple pink brown black gray grey white beige golden silver
    violet cyan magenta dark bright light pale colorful colored colourful coloured big large huge
    great small little tiny tall short long wide narrow old young new ancient modern beautiful
    pretty lovely nice good simple plain textured striped shiny dirty clean empty full hot cold wet
    dry fresh wooden happy sad funny cute single double several many few two three four five"""
)
_TOKENS = re.compile(r"[\w'’-]+|[^\w\s]")


def _words(caption: str) -> list[str]:
    return _TOKENS.findall(caption.lower())


def _names(word: str) -> bool:
    """Return whether a word may name something."""
    return word[0].isalnum() and word not in _SMALL and word not in _TURNS


def _is_detail(words: Sequence[str], i: int) -> bool:
    """Return whether a word is an adjective: "an orange" is a fruit, "an orange cup" is none."""
    return words[i] in _DETAILS and i + 1 < len(words) and _names(words[i + 1])


def core_places(words: Sequence[str]) -> list[int]:
    """Return the positions of the words that say what a caption is about, before any detail."""
    found: list[int] = []
    for i, word in enumerate(words):
        if found and (word in _TURNS or not word[0].isalnum()):
            break
        if _names(word) and word not in _PICTURES and not _is_detail(words, i):
            found.append(i)
    return found


def core(caption: str) -> str:
    """Return a caption without its details: adjectives, and what follows an "on" or a "with".

    What remains ends with what the caption is about. A caption of which nothing would remain is
    returned as it is.
    """
    words = _words(caption)
    places = core_places(words)
    if not places:
        return caption
    kept = [
        word
        for i, word in enumerate(words[: places[-1] + 1])
        if word[0].isalnum() and not _is_detail(words, i)
    ]
    return _joined(kept)


def _joined(words: Sequence[str]) -> str:
    """Return the words as a text, with the articles that they have now."""
    found = list(words)
    for i, following in enumerate(found[1:]):
        if found[i] in ("a", "an"):
            found[i] = with_article(following).partition(" ")[0]
    return " ".join(found)


@dataclass(frozen=True)
class SubCaptions:
    """A positive and a negative for each of N captions.

    Attributes:
        positive: What each caption is about, without details.
        negative: Each caption about something else: one word of its core is another's.
    """

    positive: list[str]
    negative: list[str]


def sub_captions(captions: Sequence[str], generator: torch.Generator) -> SubCaptions:
    """Return the sub-captions of all captions.

    Where no other word can be put in, the negative is the positive, and has no say in a loss that
    compares the two.

    Args:
        captions: Their cores are where other words are drawn from, each one as often as the others.
        generator: Decides the words of the negatives.
    """
    split = [_words(caption) for caption in captions]
    places = [core_places(words) for words in split]
    pool = sorted({words[i] for words, own in zip(split, places, strict=True) for i in own})
    positive = [core(caption) for caption in captions]
    negative = [
        _about_another(words, own, pool, generator) or about
        for about, words, own in zip(positive, split, places, strict=True)
    ]
    return SubCaptions(positive, negative)


def _about_another(
    words: Sequence[str],
    places: Sequence[int],
    pool: Sequence[str],
    generator: torch.Generator,
) -> str:
    own = {words[i] for i in places}
    others = len(pool) - len(own)
    if not places or others == 0:
        return ""
    place = places[int(torch.randint(len(places), (), generator=generator))]
    drawn = int(torch.randint(others, (), generator=generator))
    # The words of the caption itself are passed over.
    for word in sorted(own):
        drawn += pool[drawn] >= word
    return _joined([*words[:place], pool[drawn], *words[place + 1 :]])
