from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import Tensor

from invertune.data.bundle import PARTS, DataBundle
from invertune.data.icons import draw_glyphs

CONF = Path(__file__).parents[3] / "conf" / "data" / "icons.yaml"
MakeData = Callable[..., DataBundle]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _pictures(bundle: DataBundle) -> list[Tensor]:
    parts = [bundle.pairs, bundle.clean, bundle.zero_shot, bundle.retrieval]
    return [part.images[:] for part in parts]


def _everything(bundle: DataBundle) -> list[Any]:
    return [[part.tolist() for part in _pictures(bundle)], bundle.pairs.captions,
            bundle.zero_shot.labels.tolist(), bundle.retrieval.captions]  # fmt: skip


def test_the_seed_alone_decides(make_data: MakeData, data: DataBundle) -> None:
    expected = _everything(data)
    again = make_data()
    torch.rand(10)
    _ = again.retrieval, again.zero_shot  # in another order
    assert _everything(again) == expected
    other = _everything(make_data(seed=1))
    assert all(theirs != ours for theirs, ours in zip(other, expected, strict=True))


def test_parts_are_disjoint(data: DataBundle) -> None:
    data.check_disjoint()
    parts = _pictures(data)
    pictures = {picture.numpy().tobytes() for part in parts for picture in part}
    assert len(pictures) == sum(len(part) for part in parts)


def test_pictures_do_not_depend_on_their_batch(data: DataBundle) -> None:
    index = torch.tensor([40, 3, 17])
    everything = data.pairs.pictures(torch.arange(48))
    taken = data.pairs.take(index).images[:]
    assert torch.equal(taken, everything[index])
    assert everything.dtype == torch.uint8
    assert everything.shape == (48, 3, 32, 32)


def test_classes_are_balanced(data: DataBundle) -> None:
    assert torch.bincount(data.zero_shot.labels).tolist() == [4] * 6
    assert torch.bincount(data.labeled_clean.labels).tolist() == [2] * 6


def test_captions_name_the_object_and_sometimes_a_color(
    make_data: MakeData, config: dict[str, Any]
) -> None:
    captions = make_data(sizes={"pairs": 3000, "clean": 1, "zero_shot": 1, "retrieval": 1}).pairs
    colors = re.compile(rf"\b({'|'.join(config['colors'])})\b")
    names = re.compile(r"\b(apple|lemon|socks|key|cat|ice cream)\b")
    assert all(len(names.findall(caption)) == 1 for caption in captions.captions)
    share = sum(bool(colors.search(caption)) for caption in captions.captions) / 3000
    assert share == pytest.approx(0.4, abs=0.03)
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", c) for c in captions.captions)


def test_a_retrieval_picture_has_five_captions_of_its_object(
    make_data: MakeData, data: DataBundle
) -> None:
    assert all(len(five) == 5 for five in data.retrieval.captions)
    for five in data.retrieval.captions:
        assert any(all(name in caption for caption in five) for name in data.class_names)


def test_zero_shot_prompts_are_sentences(data: DataBundle) -> None:
    assert data.prompts == ("an apple", "a lemon", "socks", "a key", "a cat", "an ice cream")
    assert data.class_names[data.label_of("ice cream")] == "ice cream"


def test_templates_have_the_fields_that_are_filled(config: dict[str, Any]) -> None:
    def fields(template: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(template)} - {None}

    assert all(fields(template) == {""} for template in config["templates"])
    captions = config["captions"]
    assert all(fields(template) == {"object"} for template in captions["plain"])
    assert all(fields(template) == {"object"} for template in captions["colored"])
    grounds = [{"object", "background"}, {"object", "a_background"}]
    assert all(fields(template) in grounds for template in captions["grounded"])
    assert set(captions["plurals"]) <= set(config["classes"])


def test_a_hundred_classes_are_a_hundred_icons(config: dict[str, Any]) -> None:
    classes = config["classes"]
    assert len(classes) == len(set(classes.values())) == 100
    glyphs = draw_glyphs(tuple(classes.values()), side=24)
    assert glyphs.shape == (100, 1, 24, 24)
    assert glyphs.flatten(1).sum(dim=1).min() > 20  # none is empty
    assert len({glyph.numpy().tobytes() for glyph in glyphs}) == 100


def test_an_unknown_icon_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['unicorn-9'\] are no solid icons of fontawesomefree"):
        draw_glyphs(("key", "unicorn-9"))


def test_a_part_has_samples(make_data: MakeData) -> None:
    with pytest.raises(ValueError, match=r"data\.sizes\.clean is .* at least 1, got 0"):
        make_data(sizes={"pairs": 1, "clean": 0, "zero_shot": 1, "retrieval": 1})


def test_the_ids_are_known_before_anything_is_drawn(
    data: DataBundle, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (data.pairs, data.labeled_clean, data.zero_shot, data.retrieval)
    assert [list(data.ids(name)) for name in PARTS] == [list(part.ids) for part in parts]

    def fail(*_: Any) -> Any:
        raise AssertionError("something was drawn")

    monkeypatch.setattr("invertune.data.icons.render", fail)
    monkeypatch.setattr("invertune.data.icons.draw_scenes", fail)
    fresh = make_data()
    fresh.check_disjoint()
    with pytest.raises(AssertionError, match="something was drawn"):
        _ = fresh.zero_shot


def test_captions_of_the_clean_part_name_what_is_seen(data: DataBundle) -> None:
    told = data.captioned_clean
    labels = data.labeled_clean.labels.tolist()
    assert told.captions is not None
    assert len(told.captions) == len(labels)
    assert all(data.class_names[label] in caption
               for label, caption in zip(labels, told.captions, strict=True))  # fmt: skip
    assert torch.equal(told.pairs.images[:], data.clean.images[:])


def test_more_clean_images_come_after_the_others_and_change_nothing_else(
    make_data: MakeData, data: DataBundle
) -> None:
    more = make_data(more_clean=7)
    assert _everything(more)[1:] == _everything(data)[1:]
    for one, other in zip(_pictures(more), _pictures(data), strict=True):
        assert torch.equal(one[: len(other)], other)
    clean, few = more.captioned_clean, data.captioned_clean
    assert len(clean.images) == len(more.ids("clean")) == len(more.labeled_clean.labels) == 19
    assert clean.captions is not None
    assert few.captions is not None
    assert list(clean.captions)[:12] == list(few.captions)
    names = [data.class_names[label] for label in more.labeled_clean.labels.tolist()]
    assert all(name in text for name, text in zip(names, clean.captions, strict=True))
    assert len(torch.unique(clean.images[:].flatten(1), dim=0)) == 19
    more.check_disjoint()
    with pytest.raises(InstantiationException, match="more_clean is an integer of at least 0"):
        make_data(more_clean=-1)
