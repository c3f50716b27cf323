from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.terminal import Lines, printable, printable_lines, say

HOSTILE = "a\x1b[2J\r\nb\tc\x07\x9b1m\u202ed\u2066e\u2028f\x85g\ud800h\x00"


@pytest.mark.parametrize("text", ["plain", "Zürich 東京 नमस्ते", "👩\u200d🔬", "a b", ""])
def test_what_hides_nothing_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_moves_the_cursor_or_turns_the_letters_is_shown_as_its_escape() -> None:
    said = printable(HOSTILE)
    assert said == (
        r"a\x1b[2J\r\nb\tc\x07\x9b1m\u202ed\u2066e\u2028f\x85g\ud800h\x00"
    )  # fmt: skip
    assert said.isprintable()


def test_lines_of_our_own_stay_lines() -> None:
    assert printable_lines("a\nb\x1b") == "a\nb" + r"\x1b"


def test_a_run_goes_on_where_nobody_reads_any_more() -> None:
    lines = "import sys; from experiments.terminal import tell; tell('a'); tell('b'); print('end')"
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=Path(__file__).parents[2], stdout=writes,
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_long_text_is_cut() -> None:
    assert printable("a" * 50, 10) == "aaaaaaa..."
    assert printable(Path("short"), 10) == "short"


def test_what_is_said_hides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b\nb")
    assert capsys.readouterr().out == "a\\x1b\nb\n"


@pytest.mark.parametrize("style", ["%s", "%(name)s"])
def test_what_a_record_is_told_of_stays_in_its_line(style: str) -> None:
    arguments = ("x\nerror: y\x1b",) if style == "%s" else ({"name": "x\nerror: y\x1b"},)
    record = logging.LogRecord("a", 30, "f", 1, f"first\n{style} is left out", arguments, None)
    assert Lines().format(record) == "first\n" + r"x\nerror: y\x1b is left out"
    assert record.getMessage().count("\n") == 2  # other handlers get it as it was


def test_numbers_of_a_record_stay_numbers() -> None:
    record = logging.LogRecord("a", 30, "f", 1, "%.0f%% of %d", (12.3, 7), None)
    assert Lines().format(record) == "12% of 7"
