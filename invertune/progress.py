"""How far long work is: bars on a terminal, elsewhere a line of the log every half minute.

``for step in progress(range(steps), "tune")`` is all that a loop needs. Loops may stand in each
other, across functions too: the outermost one gives the stage and, with what the inner ones have
done of its current item, the share and the time left.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between lines, and before the first
_PAUSE = 5.0  # seconds without any loop that end a piece of work
_SHORT = 5.0  # seconds; of a loop that takes less in all there is nothing to say
_BAR_AFTER = 1.0  # seconds; quicker loops would only flicker

T = TypeVar("T")


def _on_terminal() -> bool:
    return sys.stderr.isatty()


@dataclass
class Reporter:
    """Says how far the loops of this process are, at most every `EVERY` seconds.

    Loops that follow each other closely are one piece of work, so that several passes of twenty
    seconds do not stay silent and a single one does.

    Attributes:
        clock: Seconds that never go back.
        terminal: Whether bars are drawn in place of lines; asked anew for every loop.
    """

    clock: Callable[[], float] = time.monotonic
    terminal: Callable[[], bool] = _on_terminal
    _running: list[Progress[Any]] = field(default_factory=list)
    _said: float = -math.inf
    _ended: float = -math.inf

    def enter(self, loop: Progress[Any]) -> None:
        """Count a loop among the running ones."""
        now = self.clock()
        if not self._running and now - self._ended > _PAUSE:
            self._said = now
        self._running.append(loop)

    def leave(self, loop: Progress[Any]) -> None:
        """Forget a loop, and what still runs in it."""
        del self._running[self._running.index(loop) :]
        self._ended = self.clock()

    def tick(self) -> None:
        """Write a line if it is time for one."""
        now, outer = self.clock(), self._running[0]
        share = 0.0
        for loop in reversed(self._running):
            share = loop.reach(share)
        if now - self._said < EVERY or share == 1 or self.terminal():
            return
        left = outer.seconds_left(now)
        if outer.seconds(now) + left < _SHORT:
            return
        self._said = now
        losses = [loop.last_loss for loop in self._running if loop.last_loss is not None]
        loss = f", loss {losses[-1]:.4g}" if losses else ""
        log.info("%s: %.0f%% done, %.0f s left%s", outer.stage, 100 * share, left, loss)


REPORTER = Reporter()


class Progress(Generic[T]):
    """The items of a loop, counted; made by `progress`.

    Attributes:
        stage: What the loop does.
        last_loss: As `loss` was told; None before.
    """

    def __init__(
        self, items: Iterable[T], stage: str, total: int, start: int, reporter: Reporter
    ) -> None:
        self.stage = stage
        self.last_loss: float | None = None
        self._items, self._total, self._reporter = items, total, reporter
        self._first, self._done, self._share = start, start, 0.0
        self._started = reporter.clock()
        self._bar: tqdm[Any] | None = None

    def __iter__(self) -> Iterator[T]:
        # A generator: it is closed, and the loop forgotten, when an exception or a break ends it.
        self._started = self._reporter.clock()
        self._reporter.enter(self)
        if self._total > 1 and self._reporter.terminal():
            self._bar = tqdm(desc=self.stage, total=self._total, initial=self._first,
                             leave=False, delay=_BAR_AFTER)  # fmt: skip
        try:
            for item in self._items:
                yield item
                self._done += 1
                self._reporter.tick()
                if self._bar is not None:
                    self._bar.update()
        finally:
            self._reporter.leave(self)
            if self._bar is not None:
                self._bar.close()

    def loss(self, value: float) -> None:
        """Keep the loss of the current item, to be shown."""
        self.last_loss = value
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {value:.4g}", refresh=False)

    def reach(self, inner: float) -> float:
        """Return the share done, in [0, 1], with ``inner`` of the current item.

        It never falls: several loops may follow each other within one item.
        """
        share = (self._done + inner) / self._total if self._total else 0.0
        self._share = max(self._share, min(1.0, share))
        return self._share

    def seconds(self, now: float) -> float:
        """Return how long the loop has been running."""
        return now - self._started

    def seconds_left(self, now: float) -> float:
        """Return how long it still takes at the rate so far; some of it must be done.

        What was done before this process went on with the work is no part of the rate.
        """
        return self.seconds(now) * (1 - self._share) / (self._share - self._first / self._total)


def progress(
    items: Iterable[T],
    stage: str,
    *,
    total: int | None = None,
    start: int = 0,
    reporter: Reporter = REPORTER,
) -> Progress[T]:
    """Return the same items for a loop that shows how far it is.

    Args:
        items: What is left to loop over.
        stage: What the loop does, in a word or a few.
        total: Number of all items, those done before included; the items' own number, and
            ``start``, if not given.
        start: Items that were done before, where an interrupted work goes on.
        reporter: Whose clock and terminal count.

    Raises:
        TypeError: If neither ``total`` is given nor the items have a number.
    """
    if total is None:
        total = start + len(items)  # type: ignore[arg-type]
    return Progress(items, stage, total, start, reporter)
