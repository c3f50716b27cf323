"""Lines of long work, with a clock that the test turns."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from tqdm import tqdm

from invertune.progress import EVERY, Reporter, progress


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, "invertune.progress")
    return Clock()


@pytest.fixture
def reporter(clock: Clock) -> Reporter:
    return Reporter(clock, terminal=lambda: False)


def work(clock: Clock, reporter: Reporter, seconds: float, steps: int, stage: str = "tune") -> None:
    for _ in progress(range(steps), stage, reporter=reporter):
        clock.now += seconds


def test_a_line_has_stage_share_time_left_and_loss(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    bar = progress(range(100), "pretrain", reporter=reporter)
    for step in bar:
        clock.now += 1
        bar.loss(2 - step / 100)
    assert caplog.messages == [
        "pretrain: 30% done, 70 s left, loss 1.71",
        "pretrain: 60% done, 40 s left, loss 1.41",
        "pretrain: 90% done, 10 s left, loss 1.11",
    ]


def test_short_work_says_nothing(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    work(clock, reporter, 0.29, 100)
    assert caplog.messages == []


@pytest.mark.parametrize(("pause", "lines"), [(0.1, 2), (60.0, 0)])
def test_many_short_loops_in_a_row_do_not_stay_silent(
    pause: float,
    lines: int,
    clock: Clock,
    reporter: Reporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(8):
        work(clock, reporter, 1.0, 10)
        clock.now += pause
    assert len(caplog.messages) == lines


def test_loops_of_a_moment_have_nothing_to_say_however_many(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        work(clock, reporter, 0.4, 10)
    assert caplog.messages == []


def test_lines_are_never_nearer_than_half_a_minute(
    clock: Clock, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [clock.now]
    monkeypatch.setattr("invertune.progress.log.info", lambda *_: times.append(clock.now))
    for seconds in (0.5, 7.0, 31.0, 0.1, 45.0):
        work(clock, reporter, seconds, 40)
    assert len(times) > 80
    assert min(later - before for before, later in itertools.pairwise(times)) >= EVERY


def test_the_outer_loop_counts_what_the_inner_one_has_done(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in progress(range(4), "identify", reporter=reporter):
        inner = progress(range(20), "patch", reporter=reporter)
        for _ in inner:
            clock.now += 1
            inner.loss(0.5)
    assert caplog.messages == [
        "identify: 38% done, 50 s left, loss 0.5",
        "identify: 75% done, 20 s left, loss 0.5",
    ]


def test_the_share_of_a_whole_never_falls(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in progress(range(2), "identify", reporter=reporter):
        work(clock, reporter, 30.0, 2, "patch")  # is all of the item, seen from here ...
        work(clock, reporter, 30.0, 2, "encode")  # ... until this one starts
    shares = [float(line.split()[1].rstrip("%")) for line in caplog.messages]
    assert shares == sorted(shares)
    assert len(shares) == 5  # and none where all seems done


def test_resumed_work_counts_from_where_it_goes_on(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in progress(range(900, 1000), "implant", total=1000, start=900, reporter=reporter):
        clock.now += 1
    assert caplog.messages[0] == "implant: 93% done, 70 s left"


def test_a_loop_that_an_error_ends_is_forgotten(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        bar = progress(range(10), "implant", reporter=reporter)
        for step in bar:
            bar.loss(1 / (1 - step))

    kept = []
    with pytest.raises(ZeroDivisionError) as raised:
        fail()
    kept.append(raised.value)  # as a sweep keeps the errors of its runs
    work(clock, reporter, 10.0, 4, "tune")
    assert caplog.messages == ["tune: 75% done, 10 s left"]


def test_a_loop_left_early_is_forgotten(
    clock: Clock, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in progress(range(10), "search", reporter=reporter):
        break
    work(clock, reporter, 10.0, 4, "tune")
    assert caplog.messages == ["tune: 75% done, 10 s left"]


def test_on_a_terminal_bars_take_the_place_of_lines(
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("invertune.progress._BAR_AFTER", 0.0)
    monkeypatch.setattr("invertune.progress.tqdm", functools.partial(tqdm, mininterval=0))
    bar = progress(range(4), "tune", reporter=Reporter(clock, terminal=lambda: True))
    for _ in bar:
        clock.now += 60
        bar.loss(0.25)
    shown = capsys.readouterr().err
    assert caplog.messages == []
    assert re.search(r"tune: +75%.* 3/4 .*loss 0.25", shown)


def test_an_unknown_number_of_items_is_an_error(reporter: Reporter) -> None:
    endless: Iterable[int] = iter(range(3))
    with pytest.raises(TypeError):
        progress(endless, "tune", reporter=reporter)
    assert list(progress(endless, "tune", total=3, reporter=reporter)) == [0, 1, 2]


def test_no_items_are_no_work(reporter: Reporter) -> None:
    assert list(progress([], "tune", reporter=reporter)) == []


def test_a_terminal_is_where_errors_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert Reporter().terminal()
