"""A table before it is written: columns, cells, which cells are the best; and its three forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

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


def frame(grid: Grid) -> pd.DataFrame:
    """Return the cells as text, the best between ``**``."""
    import pandas as pd

    titles, rows, _ = grid._texts(str, lambda cell: f"**{cell}**")
    return pd.DataFrame(rows, columns=titles)


def markdown(grid: Grid) -> str:
    """Return an aligned Markdown table."""
    titles, rows, named = grid._texts(
        lambda cell: cell.replace("|", "\\|"), lambda cell: f"**{cell}**"
    )
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, named, strict=True)]
    aligned = [
        [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, named, strict=True)
        ]
        for line in (titles, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


_LATEX = {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _escape(cell: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in cell)
    # After a line's end LaTeX would take the bracket for an argument.
    return "{}" + escaped if escaped.startswith("[") else escaped


def latex(grid: Grid) -> str:
    """Return a LaTeX table with the rules of booktabs."""
    titles, rows, named = grid._texts(_escape, lambda cell: rf"\textbf{{{cell}}}")
    written = [" & ".join(line) + r" \\" for line in (titles, *rows)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in named)}}}",
            r"\toprule",
            written[0],
            r"\midrule",
            *written[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def comma_separated(grid: Grid) -> str:
    """Return csv: shares in [0, 1], the ends of intervals in columns of their own."""
    shown = grid._shown("csv")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names: list[str] = []
    for column in (grid.columns[i] for i in shown):
        ends = [f"{column.name}_low", f"{column.name}_high"] if column.interval else []
        names += [column.name, *ends]
    writer.writerow(names)
    for row in grid.rows:
        writer.writerow([cell for i in shown for cell in grid.columns[i].plain(row[i])])
    return stream.getvalue().rstrip("\n")


WRITERS: dict[str, Callable[[Grid], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "latex": latex,
}
