from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from invertune.data.bundle import DataBundle
from invertune.data.mentions import mentions

NAMES = ("apple", "bell", "bell pepper", "glass", "glasses", "wine glass", "ice cream", "socks",
         "leaf", "snowman", "tooth", "cherry", "bus", "lemon",
         "苹果", "苹果树", "レモン")  # fmt: skip
PLURALS = ("socks", "glasses")
CONF = Path(__file__).parents[3] / "conf" / "data" / "icons.yaml"


def _named(caption: str) -> set[str]:
    return {name for name in NAMES if mentions([caption], name, NAMES, PLURALS).item()}


def test_names_are_whole_words_in_any_case() -> None:
    captions = ["a pineapple", "An Apple.", "red apple-pie", "a chess knight", "an apple's core"]
    assert mentions(captions, "apple").tolist() == [False, True, True, False, True]
    assert mentions(captions, "Chess Knight").tolist() == [False, False, False, True, False]
    assert mentions([], "apple").tolist() == []


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a bell pepper", {"bell pepper"}),
        ("red bell-peppers", {"bell pepper"}),
        ("a bell beside a bell pepper", {"bell", "bell pepper"}),
        ("a wine glass", {"wine glass"}),
        ("two wine glasses", {"wine glass"}),
        ("a lemon and an apple", {"lemon", "apple"}),
        ("an ice  cream", {"ice cream"}),
        ("an ice-cream", {"ice cream"}),
        ("cream on ice", set()),
    ],
)
def test_the_longest_name_counts(caption: str, named: set[str]) -> None:
    assert _named(caption) == named


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("three lemons", {"lemon"}),
        ("lemonade", set()),
        ("fresh cherries", {"cherry"}),
        ("yellow buses", {"bus"}),
        ("white teeth", {"tooth"}),
        ("snowmen", {"snowman"}),
        ("autumn leaves", {"leaf"}),
        ("ICE CREAMS", {"ice cream"}),
        ("socks", {"socks"}),
        ("a sock", {"socks"}),  # the YAML says that its name is a plural
        ("my glasses", {"glasses"}),  # a class's very name, not the plural of glass
        ("a glass", {"glass"}),
    ],
)
def test_plurals_count(caption: str, named: set[str]) -> None:
    assert _named(caption) == named


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("cherries", "cherry"), ("dishes", "dish"), ("boxes", "box"), ("leaves", "leaf"),
     ("mice", "mouse"), ("cafés", "café"), ("quizzes", "quiz"), ("matrices", "matrix"),
     ("mothers-in-law", "mother-in-law"), ("knives", "knife"), ("people", "person")],
)  # fmt: skip
def test_irregular_forms_count_both_ways(plural: str, singular: str) -> None:
    captions = [f"one {singular} here", f"some {plural} here", "none"]
    assert mentions(captions, singular, [singular]).tolist() == [True, True, False]
    assert mentions(captions, plural, [plural], [plural]).tolist() == [True, True, False]
    assert mentions(captions, plural, [plural]).tolist() == [False, True, False]


@pytest.mark.parametrize("between", ["-", "\u2010", "\u2011", "\u2013", "_", "  "])
def test_hyphens_of_every_kind_and_underscores_part_words(between: str) -> None:
    caption = f"a bell{between}pepper"
    assert _named(caption) == {"bell pepper"}
    assert mentions([caption], f"bell{between}pepper").item()
    assert mentions([caption], "pepper").item()


@pytest.mark.parametrize("name", ["7", "--", "C++", "'", "柠檬", "%s", "a|b"])
def test_names_that_are_no_words_have_no_plural(name: str) -> None:
    assert mentions([f"x {name} x", "x 's ss 7s C++s x"], name).tolist() == [True, False]


def test_plurals_of_others_are_no_other_word() -> None:
    captions = ["two caves", "she saves it", "the news"]
    assert not mentions(captions, "cafe", ["cafe", "cave"])[0]
    assert not mentions(captions, "safe").any()
    assert not mentions(captions, "news", ["news"])[:2].any()


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("桌上有一个苹果", {"苹果"}),
        ("一棵苹果树", {"苹果树"}),
        ("这是apple的图片", {"apple"}),
        ("黄色いレモンです", {"レモン"}),
        ("黄色いﾚﾓﾝです", {"レモン"}),
        ("ＡＰＰＬＥ", {"apple"}),
    ],
)
def test_scripts_without_blanks(caption: str, named: set[str]) -> None:
    assert _named(caption) == named


def test_accents_belong_to_their_letters() -> None:
    assert mentions(["un CAFE\u0301", "ein caf\u00e9", "a cafe"], "caf\u00e9").tolist() == [
        True, True, False,
    ]  # fmt: skip
    assert mentions(["cafe\u0301"], "cafe").tolist() == [False]
    assert mentions(["कल है", "कला"], "कल").tolist() == [True, False]


def test_signs_in_a_name_are_signs() -> None:
    captions = ["C++ code", "a c", "50% off", "550% off", "a - b"]
    assert mentions(captions, "C++").tolist() == [True, False, False, False, False]
    assert mentions(captions, "50%").tolist() == [False, False, True, False, False]
    assert mentions(captions, "-").tolist() == [False, False, False, False, True]


def test_the_captions_of_the_icons_name_what_they_always_named() -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(config, dict)
    sizes = {"pairs": 4000, "clean": 1, "zero_shot": 1, "retrieval": 100}
    data: DataBundle = instantiate({**config, "sizes": sizes}, _convert_="all").load()
    captions = [*data.pairs.captions, *(one for five in data.retrieval.captions for one in five)]
    for label, name in enumerate(data.class_names):
        plain = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        expected = [plain.search(caption) is not None for caption in captions]
        assert data.naming(captions, label).tolist() == expected
        assert 40 <= sum(expected) <= 60


def test_a_bundle_knows_its_plurals(make_data: Callable[..., DataBundle]) -> None:
    data = make_data()
    assert "socks" in data.plurals
    label = data.label_of("socks")
    assert data.naming(["a sock", "two keys"], label).tolist() == [True, False]
    assert data.naming(["a sock", "two keys"], data.label_of("key")).tolist() == [False, True]
