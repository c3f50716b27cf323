from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, ImageTextPairs
from invertune.defense import Defense, NoDefense, Purified, check_needs, given
from invertune.evidence import Evidence


@dataclass(frozen=True)
class Needy:
    """A defense that only says what it needs."""

    needs: str
    clean_samples: int = 1
    least_classes: int = 0
    name: str = "needy"
    knows: str = "nothing"

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        return Purified(model, Evidence())


def test_no_defense_returns_a_copy(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    model = tiny("vit")
    purified = NoDefense().purify(model, data.clean, seed=0)
    assert purified.model is not model
    before, after = model.state_dict(), purified.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert purified.evidence == Evidence()


@pytest.fixture
def silent(data: DataBundle) -> DataBundle:
    """Return a data set whose clean images have no captions."""
    return replace(data, name="silent", make_clean_captions=None)


@pytest.mark.parametrize(
    ("defense", "poisoned", "said"),
    [
        (Needy("labels"), True, "needs is one of images, pairs, poisoned_pairs, got 'labels'"),
        (Needy("images", 13), True, "needy needs 13 clean images, silent has 12"),
        (Needy("images", 1, 99), True, "needy compares 99 classes, silent has 6"),
        (Needy("pairs", 13), True, "needy needs 13 clean images, silent has 12"),
        (Needy("pairs"), True, "the clean images of silent have no captions"),
        (Needy("poisoned_pairs"), False, "but the attack trains on no pairs: needy is a "
         "training-time defense, .* repairs no finished model; choices: an attack that .*, or a "),
    ],
)  # fmt: skip
def test_what_there_is_not_is_said_in_one_line(
    defense: Defense, poisoned: bool, said: str, silent: DataBundle
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_needs(defense, silent, poisoned_pairs=poisoned)
    assert "\n" not in str(caught.value)


def test_what_there_is_passes_without_a_look_at_pictures(data: DataBundle) -> None:
    def fail() -> object:
        raise AssertionError("a part was drawn")

    blind = replace(data, make_clean=fail, make_pairs=fail)
    for needs in ("images", "pairs", "poisoned_pairs"):
        check_needs(Needy(needs, 12), blind, poisoned_pairs=True)
    check_needs(NoDefense(), blind, poisoned_pairs=False)


def test_a_defense_is_given_what_it_needs_and_no_more(data: DataBundle) -> None:
    suspects = ImageTextPairs(torch.zeros(1, 3, 4, 4).byte(), ["a lemon"], ["x"])

    def poisoned() -> ImageTextPairs:
        return suspects

    images = given(Needy("images"), data, poisoned)
    assert (images.captions, images.suspects) == (None, None)
    pairs = given(Needy("pairs"), data, poisoned)
    assert list(pairs.pairs.captions) == list(data.captioned_clean.pairs.captions)
    assert pairs.suspects is None
    both = given(Needy("poisoned_pairs"), data, poisoned)
    assert both.suspects is suspects
    assert both.captions is None
    for clean in (images, pairs, both):
        assert torch.equal(clean.images[:], data.labeled_clean.images[:])
    with pytest.raises(ValueError, match="needs poisoned_pairs, got none"):
        given(Needy("poisoned_pairs"), data)


def test_the_original_model_is_given_to_who_asks_for_it(
    data: DataBundle, tiny: Callable[[str], CLIP]
) -> None:
    @dataclass(frozen=True)
    class Origin(Needy):
        needs_origin: bool = True

    origin = tiny("vit")
    assert given(Needy("images"), data, origin=lambda: origin).origin is None
    assert given(Origin("images"), data, origin=lambda: origin).origin is origin
    with pytest.raises(ValueError, match="needs the original model, got none"):
        given(Origin("images"), data)
