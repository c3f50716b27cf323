from __future__ import annotations

import time

from invertune.steps import Clock


def test_the_clock_counts_what_is_inside_once() -> None:
    clock = Clock()
    with clock("outer"):
        time.sleep(0.02)
        with clock("inner"):
            time.sleep(0.05)
        with clock("inner"):
            time.sleep(0.05)
    assert clock.seconds["inner"] >= 0.1
    assert 0.02 <= clock.seconds["outer"] < clock.seconds["inner"]
