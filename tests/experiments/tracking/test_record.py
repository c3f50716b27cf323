from __future__ import annotations

from pathlib import Path

import pytest

from experiments.tracking.record import RECORD, is_logged, read_record, write_record

HOW = {"id": "0123456789abcdef", "mode": "offline", "project": "p", "group": None}


def test_a_record_is_read_back(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, HOW)
    assert read_record(tmp_path) == {"run": None, **HOW}
    assert is_logged(tmp_path, HOW)
    assert not is_logged(tmp_path, {**HOW, "mode": "online"})


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "[" * 10**5, '{"run": "../../x"}', '{"run": "/x"}', '{"run": 3}', '{"id": "*/a"}',
     '{"id": ["a"]}', '{"run": ".."}'],
)  # fmt: skip
def test_a_record_that_is_none_is_named(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RECORD).write_text(content)
    assert read_record(tmp_path) is None
    assert not is_logged(tmp_path, HOW)
    assert f"{RECORD} is left out: " in caplog.text
