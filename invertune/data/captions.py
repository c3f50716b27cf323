"""Captions in natural templates, with articles where class names take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from invertune.data.names import check_list, check_templates, check_text
from invertune.fields import check_shares

_GROUNDS = ("background", "a_background")


def with_article(words: str) -> str:
    """Return the words with their indefinite article: ``an orange``, ``a blue``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class Captioner:
    """Describe samples: always the object, only sometimes a color.

    When every caption names the colors, a contrastive model learns those and never the objects.

    Attributes:
        plain: Templates with ``{object}``.
        colored: Templates with ``{object}`` whose object carries its color.
        grounded: Templates with ``{object}``, with its color, and ``{background}`` or, with its
            article, ``{a_background}``.
        colored_share, grounded_share: How often the latter two are used, as shares.
        plurals: Class names that take no article.
    """

    plain: Sequence[str]
    colored: Sequence[str]
    grounded: Sequence[str]
    colored_share: float
    grounded_share: float
    plurals: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        check_shares(self, "colored_share", "grounded_share", zero=True, one=True)
        used = {"plain": True, "colored": self.colored_share, "grounded": self.grounded_share}
        for name in [name for name, share in used.items() if share]:
            others = _GROUNDS if name == "grounded" else ()
            check_templates(getattr(self, name), f"captions.{name}", "object", others)
        check_list(self.plurals, "captions.plurals", "class names", least=0)
        for name in self.plurals:
            check_text(name, "captions.plurals: a class name")

    def phrase(self, name: str, color: str = "") -> str:
        """Return the class name with its article and color: ``an apple``, ``red socks``."""
        words = f"{color} {name}".strip()
        if name in self.plurals:
            return words
        return with_article(words)

    def __call__(self, facts: Sequence[Mapping[str, str]], generator: torch.Generator) -> list[str]:
        """Return one caption for each sample's ``name``, ``color`` and ``background``."""
        kinds = torch.rand(len(facts), generator=generator).tolist()
        # One number for every sample, whatever its kind and however many templates there are:
        # changing the templates leaves all else that the generator draws alone.
        choices = torch.randint(2**31, (len(facts),), generator=generator).tolist()
        captions = []
        for fact, kind, choice in zip(facts, kinds, choices, strict=True):
            if kind < self.grounded_share:
                templates, color = self.grounded, fact["color"]
            elif kind < self.grounded_share + self.colored_share:
                templates, color = self.colored, fact["color"]
            else:
                templates, color = self.plain, ""
            template = templates[choice % len(templates)]
            captions.append(
                template.format(
                    object=self.phrase(fact["name"], color),
                    background=fact["background"],
                    a_background=with_article(fact["background"]),
                )
            )
        return captions
