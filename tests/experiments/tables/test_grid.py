from __future__ import annotations

import pytest

from evaluation.statistics import POOLED, STUDENT, WILSON, Estimate
from experiments.tables.grid import GAP, Cell, Column, Form, Grid, Value, as_text


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("percent", 0.1234, "12.3"),
        ("points", -0.05, "-5.0"),
        ("points", 0.05, "+5.0"),
        ("number", 1.234, "1.23"),
        ("integer", 3.0, "3"),
        ("seconds", 61.4, "61"),
        ("probability", 0.04, "0.040"),
        ("probability", 0.0004, "<0.001"),
        ("given", 240.0, "240"),
        ("given", 98.36, "98.36"),
    ],
)
def test_a_number_is_written_in_the_form_of_its_column(form: Form, value: float, text: str) -> None:
    assert Column("x", "x", form=form).cell(Estimate(value)) == Cell(text)


def test_a_cell_keeps_number_interval_and_note_apart() -> None:
    column = Column("x", "CA", form="percent", interval=True)
    cell = column.cell(Estimate(0.5, 0.4, 0.6, "tuned"))
    assert cell == Cell("50.0", "[40.0, 60.0]", "tuned")
    assert str(cell) == "50.0 [40.0, 60.0] tuned"
    assert column.heading == "CA [95 %]"
    quiet = Column("x", "CA", form="percent", interval=True, bracket=False)
    assert (str(quiet.cell(Estimate(0.5, 0.4, 0.6))), quiet.heading) == ("50.0", "CA")


@pytest.mark.parametrize("value", [None, ""])
def test_a_gap_is_a_dash_for_people_and_nothing_in_csv(value: Value) -> None:
    column = Column("x", "x", form="percent", interval=True)
    assert str(column.cell(value)) == GAP
    assert column.plain(value) == ["", "", "", ""]


def test_csv_has_numbers_as_they_are_and_their_ends() -> None:
    column = Column("x", "x", form="percent", interval=True)
    assert column.plain(Estimate(1 / 3, 0.25)) == [repr(1 / 3), "0.25", "", ""]
    assert column.plain_names == ["x", "x_low", "x_high", "x_interval"]
    assert Column("x", "x", form="given").plain(Estimate(240.0)) == ["240"]
    assert Column("x", "x").plain("a") == ["a"]


def test_a_reader_gets_their_columns_and_the_best_cells_move_along() -> None:
    columns = [Column("a", "a", where="csv"), Column("b", "b", optional=True), Column("c", "c"),
               Column("d", "d", where="text")]  # fmt: skip
    grid = Grid(columns, [["1", GAP, "3", "4"], ["5", None, "7", "8"]], frozenset({(1, 2), (0, 0)}))
    text, csv = grid.shown("text"), grid.shown("csv")
    assert ([column.name for column in text.columns], text.rows) == (
        ["c", "d"], [["3", "4"], ["7", "8"]],
    )  # fmt: skip
    assert text.best == {(1, 0)}
    assert [column.name for column in csv.columns] == ["a", "c"]
    assert csv.best == {(1, 1), (0, 0)}


def test_an_optional_column_with_one_cell_is_shown() -> None:
    grid = Grid([Column("b", "b", optional=True)], [[None], ["x"]])
    assert grid.shown("text").rows == [[None], ["x"]]


def test_texts_are_escaped_before_the_best_are_made_bold() -> None:
    grid = Grid([Column("a", "a|b")], [["1|2"], ["3"]], frozenset({(0, 0)}))
    titles, rows = grid.texts(lambda text: text.replace("|", "/"), lambda text: f"|{text}|")
    assert titles == ["a/b"]
    assert rows == [["|1/2|"], ["3"]]


RATE = Column("x", "x", form="percent", interval=True)


@pytest.mark.parametrize(
    ("interval", "shown", "said"),
    [
        (STUDENT, "50.0 [40.0, 60.0]", "[95 %]: Student's t over the seeds"),
        (POOLED, "50.0 [40.0, 60.0]w", "[95 %]w: Wilson's, over the images of all seeds together"),
        (WILSON, "50.0 [40.0, 60.0]", ""),
    ],
)
def test_a_table_says_which_intervals_it_has(interval: str, shown: str, said: str) -> None:
    value = Estimate(0.5, 0.4, 0.6, interval=interval)
    assert str(RATE.cell(value)) == shown
    assert RATE.plain(value)[3] == interval
    note = Grid([RATE], [[value]]).footnote
    assert note.startswith(said)
    assert bool(note) == bool(said)
    quiet = Column("x", "x", form="percent", interval=True, bracket=False)
    assert Grid([quiet], [[value]]).footnote == ""


@pytest.mark.parametrize(
    "cell", ["=1+1", "+A1", "-A1", "@SUM(A1)", "=cmd|' /C calc'!A0", " =1+1", "-1+1", "\uff1d1",
             "+", "--1", "-inf", "=\n"],
)  # fmt: skip
def test_no_cell_of_csv_is_a_formula(cell: str) -> None:
    written = as_text(cell)
    assert written.startswith("'") == (len(cell) > 1)
    assert Column(cell, "x").plain_names == Column("x", "x").plain(cell) == [written]


@pytest.mark.parametrize("cell", ["-0.5", "-12", "+3", "-1e-3", "-.5", GAP, "a-b", "x=1", ""])
def test_numbers_and_names_stay_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


def test_a_negative_number_of_csv_stays_one() -> None:
    assert Column("x", "x", form="points").plain(Estimate(-0.25)) == ["-0.25"]


@pytest.mark.parametrize("text", ["\t=1+1", "\r=1+1", "a\nb", "\x1b[2Ja", "a\u202eb"])
def test_a_cell_hides_nothing(text: str) -> None:
    column = Column("x", text)
    shown = [column.heading, str(column.cell(text)), *column.plain(text),
             Column("x", "x", form="number").cell(Estimate(1.0, note=text)).note]  # fmt: skip
    assert all(one.isprintable() for one in shown)
