"""Names that become folders and files: plain ones, so that nothing is written elsewhere."""

from __future__ import annotations

from pathlib import Path

LONGEST = 64  # the 255 bytes of a folder hold three of them, a seed and an id


def plain_name(value: object, place: str, longest: int = LONGEST) -> str:
    """Return a name that is one part of a path and no more; a number is taken as text.

    Args:
        value: From a config or a file.
        place: Where it stands, such as ``model.name``.
        longest: Bytes that it has at most.

    Raises:
        ValueError: If it is no name, or a path.
    """
    name = str(value) if is_number(value) else value
    if not isinstance(name, str) or not _is_plain(name, longest):
        raise ValueError(
            f"{place} is a plain folder name of at most {longest} bytes: no / or \\, no . or - at "
            f"its beginning, no blanks at its ends, no control characters; got {value!r:.100}"
        )
    return name


def _is_plain(name: str, longest: int) -> bool:
    plain = name.isprintable() and name == name.strip() and not {*name} & {*"/\\"}
    return plain and name[:1] not in ("", ".", "-") and len(name.encode()) <= longest


def is_number(value: object) -> bool:
    """Return whether a value was meant as a name and read as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def runs_folder(value: object) -> Path:
    """Return the folder of runs that a config's ``runs_dir`` means; a number is taken as text.

    Raises:
        ValueError: If it is no path.
    """
    name = str(value) if is_number(value) else value
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"runs_dir is the path of a folder, got {value!r:.100}")
    return Path(name).expanduser()
