from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from invertune.data.captions import Captioner, with_article


@pytest.fixture
def captioner() -> Captioner:
    return Captioner(
        plain=["plain {object}"],
        colored=["colored {object}"],
        grounded=["{object} on {a_background} ground", "{object} on {background}"],
        colored_share=0.25,
        grounded_share=0.15,
        plurals=["socks"],
    )


@pytest.mark.parametrize(
    ("name", "color", "phrase"),
    [
        ("apple", "", "an apple"),
        ("lemon", "", "a lemon"),
        ("apple", "green", "a green apple"),
        ("lemon", "orange", "an orange lemon"),
        ("ice cream", "", "an ice cream"),
        ("socks", "", "socks"),
        ("socks", "red", "red socks"),
    ],
)
def test_names_take_their_article(captioner: Captioner, name: str, color: str, phrase: str) -> None:
    assert captioner.phrase(name, color) == phrase


def test_backgrounds_take_their_article(captioner: Captioner) -> None:
    assert with_article("orange") == "an orange"
    assert with_article("blue") == "a blue"
    facts = [{"name": "apple", "color": "red", "background": "orange"}] * 200
    grounded = {c for c in captioner(facts, torch.Generator().manual_seed(0)) if " on " in c}
    assert grounded == {"a red apple on an orange ground", "a red apple on orange"}


def test_the_shares_of_colored_captions(captioner: Captioner) -> None:
    facts = [{"name": "lemon", "color": "red", "background": "blue"}] * 4000
    captions = captioner(facts, torch.Generator().manual_seed(0))
    assert sum("colored" in c for c in captions) / 4000 == pytest.approx(0.25, abs=0.03)
    assert sum(" on " in c for c in captions) / 4000 == pytest.approx(0.15, abs=0.03)
    assert all("red" not in c for c in captions if c.startswith("plain"))


def test_the_generator_alone_decides(captioner: Captioner) -> None:
    facts = [{"name": "lemon", "color": "red", "background": "blue"}] * 50
    first = captioner(facts, torch.Generator().manual_seed(1))
    torch.rand(10)
    assert first == captioner(facts, torch.Generator().manual_seed(1))
    assert first != captioner(facts, torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        ("plain", "an apple"),
        ("plain", "{object} and {object}"),
        ("plain", "{}"),
        ("plain", "{object} on {background}"),
        ("colored", "a {{object}}"),
        ("grounded", "{object} on {ground}"),
        ("grounded", "{object:>10}"),
        ("grounded", "{object"),
    ],
)
def test_a_template_takes_the_object_once(captioner: Captioner, kind: str, template: str) -> None:
    rule = rf"captions\.{kind}: a template takes the class name exactly once, by \{{object\}}"
    with pytest.raises(ValueError, match=rule) as raised:
        replace(captioner, **{kind: ["{object}", template]})
    assert repr(template) in str(raised.value)


def test_templates_that_are_never_used_may_be_missing(captioner: Captioner) -> None:
    assert not replace(captioner, colored=[], colored_share=0).colored
    with pytest.raises(ValueError, match=r"captions\.colored is a list of at least 1 templates"):
        replace(captioner, colored=[])


def test_plurals_are_a_list_of_names(captioner: Captioner) -> None:
    with pytest.raises(ValueError, match=r"captions\.plurals is a list of .* got 'socks'"):
        replace(captioner, plurals="socks")
    with pytest.raises(ValueError, match=r"captions\.plurals: a class name is a text, got True"):
        replace(captioner, plurals=[True])
