"""The forms in which a table is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
from experiments.tables.grid import Grid


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
