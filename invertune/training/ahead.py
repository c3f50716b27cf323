"""Batches that are read while the one before is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], fetch: Callable[[T], R], depth: int) -> Iterator[tuple[T, R]]:
    """Yield every item with what is fetched for it, in their order.

    Args:
        items: May be without end.
        fetch: Called for one item at a time; its errors are raised where the item would come.
        depth: Items that a thread is ahead; 0 fetches each when it is asked for, without a thread.
    """
    if depth == 0:
        for item in items:
            yield item, fetch(item)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append((item, pool.submit(fetch, item)))
            if len(waiting) > depth:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:  # also where whoever asked stops in the middle
        pool.shutdown(wait=True, cancel_futures=True)
