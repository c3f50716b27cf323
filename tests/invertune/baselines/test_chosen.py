from __future__ import annotations

import pytest

from invertune.baselines.chosen import chosen
from invertune.data.bundle import DataBundle


def test_fewer_ones_are_among_more_and_captions_go_with_them(plain: DataBundle) -> None:
    clean = plain.captioned_clean
    assert clean.captions is not None
    where = {bytes(image.numpy()): i for i, image in enumerate(clean.images[:])}

    def positions(count: int, seed: int) -> list[int]:
        some = chosen("mine", clean, count, seed)
        found = [where[bytes(image.numpy())] for image in some.images[:]]
        assert some.captions == [clean.captions[i] for i in found]
        return found

    assert len(set(positions(12, 0))) == 12
    assert positions(12, 0)[:5] == positions(5, 0)
    assert positions(5, 0) != positions(5, 1)


def test_too_few_are_named(plain: DataBundle) -> None:
    with pytest.raises(ValueError, match="mine needs 13 clean images, got 12"):
        chosen("mine", plain.clean, 13, 0)
