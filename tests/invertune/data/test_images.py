from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertune.data.images import Images

PICTURES = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 2, 2).contiguous()


class Reader:
    """Reads pictures, and remembers how many at a time."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, index: Tensor) -> Tensor:
        self.read.append(len(index))
        return PICTURES[index]


@pytest.fixture(params=["in memory", "read when used"])
def images(request: pytest.FixtureRequest) -> Images:
    return Images(PICTURES if request.param == "in memory" else Reader(), 10)


def _values(pictures: Tensor) -> list[int]:
    assert pictures.dtype == torch.uint8
    assert pictures.shape[1:] == (3, 2, 2)
    return pictures[:, 0, 0, 0].tolist()


def test_pictures_are_chosen_by_index_mask_and_slice(images: Images) -> None:
    assert len(images) == 10
    assert _values(images[torch.tensor([7, 2, 2])]) == [7, 2, 2]
    assert _values(images[torch.arange(10) > 6]) == [7, 8, 9]
    assert _values(images[:3]) == [0, 1, 2]
    assert _values(images[-2:]) == [8, 9]
    assert _values(images[10:]) == []


def test_what_is_taken_is_chosen_from_again(images: Images) -> None:
    taken = images.take(torch.tensor([9, 4, 6]))
    assert (len(taken), _values(taken[:])) == (3, [9, 4, 6])
    again = taken.take(torch.tensor([False, True, True]))
    assert _values(again[:]) == [4, 6]
    assert _values(images.take(slice(2, 5))[torch.tensor([2, 0])]) == [4, 2]
    assert len(images.take(torch.zeros(10, dtype=torch.bool))) == 0


def test_all_are_read_in_batches_of_a_size(images: Images) -> None:
    assert [_values(batch) for batch in images.batches(4)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9],
    ]  # fmt: skip


def test_nothing_is_read_before_it_is_looked_at() -> None:
    reader = Reader()
    images = Images(reader, 10)
    taken = images.take(torch.tensor([1, 2, 3]))
    assert reader.read == []
    list(taken.batches(2))
    assert reader.read == [2, 1]


def test_pictures_that_fit_are_kept_in_memory() -> None:
    reader = Reader()
    images = Images(reader, 10)
    kept = images.kept(limit=10 * 12)
    assert _values(kept[:]) == list(range(10))
    reads = len(reader.read)
    list(kept.batches(3))
    assert len(reader.read) == reads
    assert images.kept(limit=10 * 12 - 1) is images
    assert kept.kept() is kept


def test_pictures_are_read_with_the_first_of_them_once() -> None:
    reader = Reader()
    images = Images(reader, 10).once()
    assert reader.read == []
    assert _values(images[torch.tensor([3])]) == [3]
    reads = list(reader.read)
    assert _values(images[torch.tensor([8, 1])]) == [8, 1]
    assert reader.read == reads
    assert max(reads) == 10
    too_large = Images(reader, 10).once(limit=5)
    reader.read.clear()
    assert _values(too_large[torch.tensor([3])]) == [3]
    assert max(reader.read) == 1


def test_pictures_come_in_any_form() -> None:
    assert _values(Images.of(PICTURES, 3)[:2]) == [0, 1]
    assert len(Images.of(PICTURES, 3)) == 10
    assert len(Images.of(Reader(), 3)) == 3
    held = Images(Reader(), 10)
    assert Images.of(held, 3) is held


def test_a_wrong_count_is_named() -> None:
    with pytest.raises(ValueError, match="there are 10 pictures, count says 9"):
        Images(PICTURES, 9)


def test_pictures_are_the_same_in_any_precision() -> None:
    def drawn(index: Tensor) -> Tensor:
        shades = torch.linspace(0.1, 1, 10)[index].view(-1, 1)
        pictures: Tensor = (shades @ torch.full((1, 12), 201.3)).round().to(torch.uint8)
        return pictures.view(-1, 3, 2, 2)

    images, index = Images(drawn, 10), torch.arange(10)
    plain = images[index]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(drawn(index), plain)  # what is multiplied here is rounded
        assert torch.equal(images[index], plain)
