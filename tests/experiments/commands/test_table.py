from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]


def test_a_row_is_printed_for_every_run(inside: Inside, leave: Leave) -> None:
    leave("one", asr=0.9)
    leave("two", name="sig", asr=0.8)
    code, shown, complaint = inside("table", "runs", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert (code, complaint) == (0, "")
    assert [row["attack"] for row in rows] == ["badnet", "sig"]


def test_only_some_rows_are_printed(inside: Inside, leave: Leave) -> None:
    leave("one")
    leave("two", name="sig")
    _, shown, _ = inside("table", "runs", "--format", "csv", "--only", "attack=sig,wanet")
    assert [row["attack"] for row in csv.DictReader(io.StringIO(shown))] == ["sig"]


@pytest.mark.parametrize(
    ("form", "start"), [("md", "| model"), ("csv", "data,model,attack"), ("latex", "\\begin{")]
)
def test_every_text_is_of_its_format(form: str, start: str, inside: Inside, leave: Leave) -> None:
    leave("one")
    code, shown, _ = inside("table", "runs", "--format", form)
    assert code == 0
    assert shown.lstrip().startswith(start)


def test_parquet_is_a_file(inside: Inside, leave: Leave, tmp_path: Path) -> None:
    leave("one")
    code, shown, _ = inside("table", "runs", "--format", "parquet")
    assert code == 0
    assert "results.parquet" in shown
    assert len(pd.read_parquet(tmp_path / "runs" / "results.parquet")) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs", "--only", "attack=wanet"], "wanet"),
        (["runs", "--only", "wanet"], "wanet"),
        (["runs", "--experiment", "T99"], "T99"),
        (["nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, inside: Inside, leave: Leave) -> None:
    leave("one")
    code, shown, complaint = inside("table", *words)
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: ")
    assert said in complaint


def test_an_unknown_format_is_wrong_usage(
    inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        inside("table", "runs", "--format", "xlsx")
    assert stopped.value.code == 2
    assert "invalid choice: 'xlsx'" in capsys.readouterr().err
