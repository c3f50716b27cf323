"""What is fetched ahead comes in order, and no thread outlives the loop."""

from __future__ import annotations

import itertools
import threading

import pytest

from invertune.training.ahead import ahead


@pytest.mark.parametrize("depth", [0, 1, 3, 50])
def test_every_item_comes_once_and_in_order(depth: int) -> None:
    assert list(ahead(range(10), lambda i: i * i, depth)) == [(i, i * i) for i in range(10)]


def test_a_thread_is_as_far_ahead_as_it_may_be() -> None:
    seen: list[int] = []
    loop = ahead(itertools.count(), seen.append, 2)
    assert next(loop)[0] == 0
    loop.close()  # type: ignore[attr-defined]
    assert seen == list(range(len(seen)))
    assert 1 <= len(seen) <= 3
    assert not [one for one in threading.enumerate() if one.name.startswith("ThreadPool")]


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_where_its_item_would(depth: int) -> None:
    loop = ahead([1, 1, 0, 1], lambda i: 1 // i, depth)
    assert [next(loop)[1], next(loop)[1]] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(loop)
