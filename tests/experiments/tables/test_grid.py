from __future__ import annotations

import pytest

from evaluation.statistics import Estimate
from experiments.tables.grid import GAP, Cell, Column, Form, Grid, Value


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
    assert column.plain(value) == ["", "", ""]


def test_csv_has_numbers_as_they_are_and_their_ends() -> None:
    column = Column("x", "x", form="percent", interval=True)
    assert column.plain(Estimate(1 / 3, 0.25)) == [repr(1 / 3), "0.25", ""]
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
