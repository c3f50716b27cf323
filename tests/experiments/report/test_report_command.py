from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.commands.report import main
from experiments.results.result import write_result


def test_the_command_writes_where_it_is_told(
    result: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "run", result())
    wanted = tmp_path / "pages" / "mine.html"
    assert main([str(tmp_path), "--output", str(wanted)]) == 0
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(wanted), str(tmp_path / "report.html")]
    assert wanted.read_text() == (tmp_path / "report.html").read_text()
