from __future__ import annotations

import os
from pathlib import Path

import pytest

from invertune.regular import read_json, require_regular, sub_object


@pytest.mark.parametrize(("text", "said"), [("{", "is no JSON: "), ("[1]", "holds no object")])
def test_a_json_file_holds_an_object(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": {"b": 1}, "c": 2}')
    assert sub_object(read_json(path), "a") == {"b": 1}
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_json(path)


def test_what_reading_never_ends_is_no_file(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    file.write_bytes(b"four")
    assert require_regular(file) == 4
    for path in (pipe, link, Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="is no regular file"):
            require_regular(path)
    with pytest.raises(ValueError, match="is no regular file"):
        read_json(link)
