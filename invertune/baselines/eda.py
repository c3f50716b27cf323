"""Easy data augmentation of captions: a few words are swapped, dropped, replaced or added."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from invertune.data.names import check_list, check_text
from invertune.fields import check_shares, check_types

Words = list[str]


@dataclass(frozen=True)
class EDA:
    """EDA (Wei and Zou, 2019): one of four operations, drawn for each caption.

    CleanCLIP takes synonyms from WordNet, which is a download, and which no package carries in a
    form to depend on. Without synonyms one of the two operations that need none is drawn: a swap
    or a deletion. Both break up a caption as the other two do; no foreign word comes in.

    Attributes:
        alpha: Share of a caption's words that are swapped, replaced or followed by a synonym
            elsewhere; of one word at least.
        deletion: Share of the words that are dropped, each by itself.
        synonyms: Word, in small letters -> words that may stand for it.
    """

    alpha: float
    deletion: float
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "alpha", one=True)
        check_shares(self, "deletion", zero=True, one=True)
        if not isinstance(self.synonyms, Mapping):
            raise ValueError(f"synonyms maps words to lists of words, got {self.synonyms!r:.80}")
        for word, others in self.synonyms.items():
            check_text(word, "synonyms: a word")
            check_list(others, f"synonyms.{word}", "words")

    def __call__(self, texts: Sequence[str], generator: torch.Generator) -> list[str]:
        """Return the texts with a few words changed, in small letters and nothing but letters.

        No text becomes empty: one without any letter from a to z is returned as it is.

        Args:
            texts: Captions.
            generator: Decides all that is drawn.
        """
        return [self._changed(text, generator) for text in texts]

    def _changed(self, text: str, generator: torch.Generator) -> str:
        words = letters(text).split()
        if not words:
            return text
        count = max(1, int(self.alpha * len(words)))
        ways: list[Callable[[], Words]] = [
            lambda: swapped(words, count, generator),
            lambda: thinned(words, self.deletion, generator),
        ]
        if self.synonyms:
            ways += [
                lambda: replaced(words, count, self.synonyms, generator),
                lambda: enriched(words, count, self.synonyms, generator),
            ]
        return " ".join(ways[_one_of(len(ways), generator)]())


def letters(text: str) -> str:
    """Return a text in small letters, without anything else but blanks between words."""
    joined = re.sub(r"['’]", "", text.lower())  # don't is one word
    return " ".join(re.sub(r"[^a-z]+", " ", joined).split())


def swapped(words: Sequence[str], count: int, generator: torch.Generator) -> Words:
    """Return the words after ``count`` swaps of two of them; fewer than two stay as they are."""
    found = list(words)
    for _ in range(count if len(found) > 1 else 0):
        i, j = torch.randperm(len(found), generator=generator)[:2].tolist()
        found[i], found[j] = found[j], found[i]
    return found


def thinned(words: Sequence[str], share: float, generator: torch.Generator) -> Words:
    """Return the words without a share of them, each dropped by itself; one at least stays."""
    drawn = torch.rand(len(words), generator=generator).tolist()
    kept = [word for word, one in zip(words, drawn, strict=True) if one >= share]
    return kept or [words[_one_of(len(words), generator)]]


def replaced(
    words: Sequence[str],
    count: int,
    synonyms: Mapping[str, Sequence[str]],
    generator: torch.Generator,
) -> Words:
    """Return the words with ``count`` different ones replaced by a synonym, where there is one."""
    known = [word for word in dict.fromkeys(words) if word in synonyms]
    order = torch.randperm(len(known), generator=generator)[:count].tolist()
    chosen = {known[i]: _synonym(known[i], synonyms, generator) for i in order}
    return [chosen.get(word, word) for word in words]


def enriched(
    words: Sequence[str],
    count: int,
    synonyms: Mapping[str, Sequence[str]],
    generator: torch.Generator,
) -> Words:
    """Return the words with ``count`` synonyms of some of them put in anywhere."""
    found = list(words)
    known = [word for word in dict.fromkeys(words) if word in synonyms]
    for _ in range(count if known else 0):
        word = known[_one_of(len(known), generator)]
        found.insert(_one_of(len(found) + 1, generator), _synonym(word, synonyms, generator))
    return found


def _synonym(word: str, synonyms: Mapping[str, Sequence[str]], generator: torch.Generator) -> str:
    return synonyms[word][_one_of(len(synonyms[word]), generator)]


def _one_of(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
