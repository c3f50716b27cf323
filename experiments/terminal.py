"""What reaches a terminal: text that others wrote moves no cursor and begins no line."""

from __future__ import annotations

import copy
import logging
import os
import sys
import unicodedata
from collections.abc import Mapping

# Control, formatting (which turns the order of letters around), half characters, ends of lines.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # some scripts and emoji need them, and they move nothing else


def printable(text: object, most: int | None = None) -> str:
    """Return text as one line in which nothing is hidden.

    Args:
        text: May be of a file that somebody else made.
        most: Characters to keep; all if None.

    Returns:
        The text, each control character as its escape, such as ``\\x1b`` or ``\\n``.
    """
    said = str(text)
    if not said.isprintable():
        said = "".join(_escaped(sign) if _is_hidden(sign) else sign for sign in said)
    return said if most is None or len(said) <= most else f"{said[: most - 3]}..."


def printable_lines(text: object) -> str:
    """Return lines of our own making, each as `printable` has it."""
    return "\n".join(map(printable, str(text).split("\n")))


def say(text: object) -> None:
    """Print what a command found."""
    print(printable_lines(text), flush=True)


def tell(text: object) -> None:
    """Print what a run found, and go on where nobody reads any more, as after ``| head``."""
    try:
        say(text)
    except BrokenPipeError:
        hush()


def hush() -> None:
    """Let nothing that is printed from here on be heard, for nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_hidden(sign: str) -> bool:
    return sign not in _JOINERS and unicodedata.category(sign) in _HIDDEN


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


class Lines(logging.Formatter):
    """Formats records whose arguments may be of a file that somebody else made."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record; what it is told of stays within its line."""
        shown = copy.copy(record)
        if isinstance(record.args, Mapping):
            shown.args = {name: _argument(value) for name, value in record.args.items()}
        elif record.args:
            shown.args = tuple(map(_argument, record.args))
        return printable_lines(super().format(shown))


def _argument(value: object) -> object:
    return value if value is None or isinstance(value, int | float) else printable(value)
