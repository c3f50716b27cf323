from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.commands.table import main
from experiments.results.result import write_result


def test_the_command_prints_the_table_in_the_form_that_is_asked_for(
    result: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        write_result(tmp_path / f"run{seed}", result(seed))
    assert main([str(tmp_path), "--format", "csv", "--only", "seed=1"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("data,model,attack")
    assert len(rows) == 1
    main([str(tmp_path)])
    assert capsys.readouterr().out.startswith("| model")


def test_an_unknown_form_lists_the_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--format", "xml"])
    assert "parquet" in capsys.readouterr().err


def test_the_experiment_is_given_by_name(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_result(tmp_path / "run", result())
    with pytest.raises(ValueError, match="no experiment 'T99'; choices: "):
        main([str(tmp_path), "--experiment", "T99"])
