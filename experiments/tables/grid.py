"""A table before it is written: columns, cells, which cells are the best; and its three forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.statistics import Estimate

Value = Estimate | str | None
GAP = "-"


def _probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


_NUMBERS: dict[str, Callable[[float], str]] = {
    "percent": lambda value: f"{100 * value:.1f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "number": lambda value: f"{value:.2f}",
    "integer": lambda value: f"{value:.0f}",
    "seconds": lambda value: f"{value:.0f}",
    "probability": _probability,
}


@dataclass(frozen=True)
class Column:
    """What a column holds and how it is written.

    Attributes:
        name: Its name in csv.
        title: Its title in md and latex.
        form: ``text``, or how its numbers are written: ``percent`` and ``points`` of a share,
            ``number``, ``integer``, ``seconds``, ``probability``.
        interval: Whether csv has the ends of the interval beside the number.
        bracket: Whether md and latex have them too.
        best: ``lowest`` or ``highest`` where one number is better than another.
        where: ``all`` forms, ``text`` for md and latex, or ``csv``.
        optional: Whether the column is left out where all its cells are gaps.
    """

    name: str
    title: str
    form: str = "text"
    interval: bool = False
    bracket: bool = True
    best: str = ""
    where: str = "all"
    optional: bool = False

    @property
    def heading(self) -> str:
        """The title, which says so where the cells have intervals."""
        return f"{self.title} [95 %]" if self.interval and self.bracket else self.title

    def text(self, value: Value) -> str:
        """Return a cell for people."""
        if not isinstance(value, Estimate):
            return value or GAP
        write = _NUMBERS[self.form]
        text = write(value.value)
        if self.interval and self.bracket and value.low is not None and value.high is not None:
            text += f" [{write(value.low)}, {write(value.high)}]"
        return f"{text} {value.note}" if value.note else text

    def plain(self, value: Value) -> list[str]:
        """Return the cells of csv, numbers as they are."""
        if isinstance(value, Estimate):
            ends = [value.value, value.low, value.high]
        else:
            ends = [None, None, None]
        numbers = ["" if end is None else repr(end) for end in ends]
        first = [value] if isinstance(value, str) else numbers[:1]
        return first + (numbers[1:] if self.interval else [])


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

    def _shown(self, form: str) -> list[int]:
        return [
            i
            for i, column in enumerate(self.columns)
            if column.where in ("all", form)
            and not (column.optional and all(row[i] in (None, "", GAP) for row in self.rows))
        ]

    def _texts(
        self, escape: Callable[[str], str], bold: Callable[[str], str]
    ) -> tuple[list[str], list[list[str]], list[bool]]:
        """Return titles, rows, and which columns are of text."""
        shown = self._shown("text")
        rows = []
        for i, row in enumerate(self.rows):
            cells = [escape(self.columns[j].text(row[j])) for j in shown]
            rows.append(
                [
                    bold(cell) if (i, j) in self.best else cell
                    for cell, j in zip(cells, shown, strict=True)
                ]
            )
        titles = [escape(self.columns[j].heading) for j in shown]
        return titles, rows, [self.columns[j].form == "text" for j in shown]
