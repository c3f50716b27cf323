from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import pytest

from evaluation.statistics import POOLED, Estimate
from experiments.tables.grid import Column, Grid
from experiments.tables.writers import WRITERS, comma_separated, html, latex, markdown

GRID = Grid(
    [
        Column("defense", "defense"),
        Column("ca", "CA", form="percent", interval=True),
        Column("target", "target", where="csv"),
        Column("p", "p", form="probability"),
    ],
    [
        ["none|x", Estimate(0.5, 0.25, 0.75), "lemon", None],
        ["a_b & <c>", Estimate(0.9, 0.8, 1.0, "n=3"), "key", Estimate(0.0001)],
    ],
    frozenset({(1, 1)}),
)


def test_markdown_is_aligned_and_escaped() -> None:
    assert markdown(GRID).splitlines() == [
        r"| defense   |                  CA [95 %] |      p |",
        r"| --------- | -------------------------: | -----: |",
        r"| none\|x   |          50.0 [25.0, 75.0] |      - |",
        r"| a_b & <c> | **90.0 [80.0, 100.0] n=3** | <0.001 |",
    ]


def test_latex_is_escaped_and_the_best_is_bold() -> None:
    lines = latex(GRID).splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrr}", r"\toprule"]
    assert lines[2] == r"defense & CA [95 \%] & p \\"
    assert lines[5] == (
        r"a\_b \& \textless{}c\textgreater{} & \textbf{90.0 [80.0, 100.0] n=3} & "
        r"\textless{}0.001 \\"
    )
    assert lines[-1] == r"\end{tabular}"


def test_a_bracket_that_begins_a_row_is_no_argument_of_the_line_before() -> None:
    grid = Grid([Column("a", "a")], [["[x]"]])
    assert r"{}[x] \\" in latex(grid).splitlines()


def test_csv_can_be_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated(GRID))))
    assert rows[0] == {"defense": "none|x", "ca": "0.5", "ca_low": "0.25", "ca_high": "0.75",
                       "ca_interval": "", "target": "lemon", "p": ""}  # fmt: skip
    assert float(rows[1]["p"]) == 0.0001


def _table(grid: Grid) -> ET.Element:
    return ET.fromstring(str(html(grid)))  # fails where it does not nest


def test_html_sorts_by_values_and_keeps_interval_and_note_small() -> None:
    first, second = _table(GRID).findall(".//tbody/tr")
    assert [cell.get("data-sort") for cell in first] == [None, "0.5", ""]
    assert [cell.get("data-sort") for cell in second] == [None, "0.9", "0.0001"]
    assert second[1].findtext("b") == "90.0"
    assert second[1].findtext("small") == "[80.0, 100.0] n=3"
    assert first[1].find("b") is None
    headings = _table(GRID).findall(".//thead//th")
    assert [heading.get("class") for heading in headings] == [None, "number", "number"]
    assert [heading.findtext("button") for heading in headings] == ["defense", "CA [95 %]", "p"]


def test_html_escapes_what_comes_from_cells_and_titles() -> None:
    evil = "<script>alert('1')</script>&\""
    grid = Grid([Column("a", evil), Column("b", "b", form="number")],
                [[evil, Estimate(1.0, note=evil)]])  # fmt: skip
    written = str(html(grid))
    assert "<script" not in written
    assert _table(grid).findall(".//td")[0].text == evil
    assert _table(grid).findtext(".//small") == evil


@pytest.mark.parametrize(("rows", "long"), [(15, False), (16, True)])
def test_a_long_html_table_scrolls(rows: int, long: bool) -> None:
    grid = Grid([Column("a", "a")], [["x"]] * rows)
    assert ("long" in (_table(grid).get("class") or "")) == long


@pytest.mark.parametrize("form", WRITERS)
def test_a_table_without_rows_has_its_titles(form: str) -> None:
    assert "a" in WRITERS[form](Grid([Column("a", "a")], []))


def test_every_form_for_people_says_which_intervals_it_has() -> None:
    column = Column("ca", "CA", form="percent", interval=True)
    grid = Grid([column], [[Estimate(0.5, 0.25, 0.75, interval=POOLED)]])
    assert grid.footnote.startswith("[95 %]w: Wilson's")
    assert markdown(grid).splitlines()[-2:] == ["", grid.footnote]
    assert "[25.0, 75.0]w" in markdown(grid)
    assert latex(grid).splitlines()[-1] == (
        r"\par{\footnotesize {}" + grid.footnote.replace("%", r"\%") + "}"
    )
    assert _table(grid).findtext("p[@class='note']") == grid.footnote
    assert "\n\n" not in comma_separated(grid)


def test_csv_has_no_formulas() -> None:
    grid = Grid([Column("=A1", "x"), Column("n", "n", form="points")],
                [["=1+1", Estimate(-0.5)], ["a\r\n=2", None]])  # fmt: skip
    assert comma_separated(grid).splitlines() == ["'=A1,n", "'=1+1,-0.5", r"a\r\n=2,"]
