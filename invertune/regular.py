"""Files of strangers, opened only if they are files."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

_LARGEST = 64 * 2**20


def require_regular(path: Path) -> int:
    """Return the size of a file, in bytes; a link to one is one.

    Raises:
        ValueError: If it is a pipe, a device or another thing that reading may never end.
        OSError: If there is none.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file")
    return status.st_size


def read_text(path: Path, largest: int = _LARGEST) -> str:
    """Return the text of a file.

    Raises:
        ValueError: If it is no regular file, larger than so many bytes, or no text in UTF-8, as
            JSON is.
        OSError: If it cannot be read.
    """
    if require_regular(path) > largest:
        raise ValueError(f"{path} is larger than {largest >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON, or truncated ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ValueError: If it is no regular file, larger than 64 MiB, or holds no object.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def parse_json(text: str) -> dict[str, Any]:
    """Return the object that a JSON text describes.

    Raises:
        ValueError: If it is no JSON, or holds no object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"holds no object, but a {type(content).__name__}")
    return content


def sub_object(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an object in an object; an empty one where there is none."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}
