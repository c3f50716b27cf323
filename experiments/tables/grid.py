"""A table before it is written: columns, cells, and which cells are the best."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from evaluation.detection import NEWCOMBE
from evaluation.statistics import POOLED, STUDENT, WILSON, Estimate
from experiments.results.variants import plain
from experiments.terminal import printable

Value = Estimate | str | None
# How the numbers of a column are written; ``text`` has none.
Form = Literal["text", "given", "percent", "points", "number", "integer", "seconds", "probability"]
# For whom a table is written: ``text`` is md, latex and html.
Reader = Literal["text", "csv"]
# Which number of a column is better than the others.
Best = Literal["", "lowest", "highest"]
GAP = "-"
# How an interval is marked, and what that says; those of one seed stand without a word.
_MARKS = {STUDENT: "", POOLED: "w", WILSON: ""}
_SAID = {
    STUDENT: "[95 %]: Student's t over the seeds",
    POOLED: "[95 %]w: Wilson's, over the images of all seeds together, the wider of the two",
    NEWCOMBE: "of an AUROC: Newcombe's",
    WILSON: "of one share: Wilson's",
}


def _probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


_NUMBERS: dict[str, Callable[[float], str]] = {
    "given": plain,
    "percent": lambda value: f"{100 * value:.1f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "number": lambda value: f"{value:.2f}",
    "integer": lambda value: f"{value:.0f}",
    "seconds": lambda value: f"{value:.0f}",
    "probability": _probability,
}


# What a spreadsheet would reckon: a sign that begins a formula, but for numbers.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20].")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_text(cell: str) -> str:
    """Return a cell of csv that no spreadsheet takes for a formula."""
    cell = printable(cell)
    formula = _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


class Cell(NamedTuple):
    """A cell for people.

    Attributes:
        text: The number or the words.
        interval: The number's interval, in brackets, or nothing.
        note: What is said beside it, or nothing.
    """

    text: str
    interval: str = ""
    note: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


@dataclass(frozen=True)
class Column:
    """What a column holds and how it is written.

    Attributes:
        name: Its name in csv.
        title: Its title for people.
        form: How its numbers are written: ``percent`` and ``points`` are of a share, ``given`` is
            as somebody gave them, with as many digits.
        interval: Whether csv has the ends of the interval beside the number.
        bracket: Whether people see them too.
        best: ``lowest`` or ``highest`` where one number is better than another.
        where: ``all``, or the only reader who gets it.
        optional: Whether the column is left out where all its cells are gaps.
    """

    name: str
    title: str
    form: Form = "text"
    interval: bool = False
    bracket: bool = True
    best: Best = ""
    where: Literal["all", "text", "csv"] = "all"
    optional: bool = False

    @property
    def heading(self) -> str:
        """The title, which says so where the cells have intervals."""
        title = printable(self.title)
        return f"{title} [95 %]" if self.interval and self.bracket else title

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.form != "text"

    def cell(self, value: Value) -> Cell:
        """Return a cell for people."""
        if not isinstance(value, Estimate):
            return Cell(printable(value or GAP))
        write = _NUMBERS[self.form]
        interval = ""
        if self.interval and self.bracket and value.low is not None and value.high is not None:
            ends = f"[{write(value.low)}, {write(value.high)}]"
            interval = ends + _MARKS.get(value.interval, "")
        return Cell(write(value.value), interval, printable(value.note))

    def plain(self, value: Value) -> list[str]:
        """Return the cells of csv, numbers as they are; `plain_names` has as many."""
        more = len(self.plain_names) - 1
        if not isinstance(value, Estimate):
            return [as_text(value or ""), *([""] * more)]
        ends = ["" if end is None else repr(end) for end in (value.low, value.high)]
        number = plain(value.value) if self.form == "given" else repr(value.value)
        return [number, *[*ends, value.interval][:more]]

    @property
    def plain_names(self) -> list[str]:
        """The names of its columns in csv: the number, the ends of its interval, and of which."""
        more = ["_low", "_high", "_interval"] if self.interval else []
        return [as_text(f"{self.name}{end}") for end in ("", *more)]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        columns: From left to right.
        rows: One cell per column.
        best: Row and column of the cells that are the best of theirs.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    best: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def shown(self, reader: Reader) -> Grid:
        """Return the columns that a reader gets."""
        kept = [
            i
            for i, column in enumerate(self.columns)
            if column.where in ("all", reader)
            and not (column.optional and all(row[i] in (None, "", GAP) for row in self.rows))
        ]
        return Grid(
            [self.columns[i] for i in kept],
            [[row[i] for i in kept] for row in self.rows],
            frozenset((row, kept.index(i)) for row, i in self.best if i in kept),
        )

    @property
    def footnote(self) -> str:
        """What the intervals of means and areas are, for those who see them; empty without any."""
        kinds = {
            value.interval
            for row in self.rows
            for column, value in zip(self.columns, row, strict=True)
            if isinstance(value, Estimate) and column.cell(value).interval
        }
        other = kinds - {WILSON}
        return "; ".join(text for kind, text in _SAID.items() if other and kind in kinds)

    def texts(
        self, escape: Callable[[str], str], bold: Callable[[str], str]
    ) -> tuple[list[str], list[list[str]]]:
        """Return titles and rows as one text per cell, the best ones made bold."""
        titles = [escape(column.heading) for column in self.columns]
        rows = []
        for i, row in enumerate(self.rows):
            cells = [
                escape(str(column.cell(value)))
                for column, value in zip(self.columns, row, strict=True)
            ]
            best = [(i, j) in self.best for j in range(len(cells))]
            rows.append(
                [bold(cell) if own else cell for cell, own in zip(cells, best, strict=True)]
            )
        return titles, rows
