"""The forms in which a table is written, one function each."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.statistics import Estimate
from experiments.tables.grid import Grid

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

TEMPLATE = Path(__file__).with_name("table.html.j2")


def markdown(grid: Grid) -> str:
    """Return an aligned Markdown table."""
    grid = grid.shown("text")
    titles, rows = grid.texts(lambda cell: cell.replace("|", "\\|"), lambda cell: f"**{cell}**")
    named = [not column.numeric for column in grid.columns]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, named, strict=True)]
    aligned = [
        [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, named, strict=True)
        ]
        for line in (titles, *rows)
    ]
    lines = [f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]]]
    return "\n".join([*lines, *(["", grid.footnote] if grid.footnote else [])])


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
    grid = grid.shown("text")
    titles, rows = grid.texts(_escape, lambda cell: rf"\textbf{{{cell}}}")
    written = [" & ".join(line) + r" \\" for line in (titles, *rows)]
    places = "".join("r" if column.numeric else "l" for column in grid.columns)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{places}}}",
            r"\toprule",
            written[0],
            r"\midrule",
            *written[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par{{\footnotesize {_escape(grid.footnote)}}}"] if grid.footnote else []),
        ]
    )


def comma_separated(grid: Grid) -> str:
    """Return csv: shares in [0, 1], columns of their own for ends and kind of the intervals."""
    grid = grid.shown("csv")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name for column in grid.columns for name in column.plain_names])
    for row in grid.rows:
        writer.writerow(
            [
                cell
                for column, value in zip(grid.columns, row, strict=True)
                for cell in column.plain(value)
            ]
        )
    return stream.getvalue().rstrip("\n")


def html(grid: Grid) -> Markup:
    """Return an HTML table that a page can sort: ``data-sort`` has a number's value, gaps none.

    Everything that comes from the cells is escaped.
    """
    from markupsafe import Markup

    grid = grid.shown("text")
    rows = [
        [
            {
                "text": cell.text,
                "more": " ".join(part for part in (cell.interval, cell.note) if part),
                "best": (i, j) in grid.best,
                "numeric": column.numeric,
                "key": repr(value.value) if isinstance(value, Estimate) else "",
            }
            for j, (column, value) in enumerate(zip(grid.columns, row, strict=True))
            for cell in [column.cell(value)]
        ]
        for i, row in enumerate(grid.rows)
    ]
    return Markup(_template().render(grid=grid, rows=rows))  # the template escapes


@functools.cache
def _template() -> Template:
    import jinja2

    # Not chosen by the file's name, which would leave .html.j2 without escaping.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


# What `invertune table` offers.
WRITERS: dict[str, Callable[[Grid], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "latex": latex,
}
