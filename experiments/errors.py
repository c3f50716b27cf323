"""What a user reads when something goes wrong: one line, and no traceback."""

from __future__ import annotations

import re
import sys

from experiments.terminal import printable

FAILURE = 1
USAGE = 2


def is_user_error(error: BaseException) -> bool:
    """Return whether ``error`` is about input, disk or memory, not a fault of the program."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, ValueError | OSError | MemoryError | HydraException):
        return True
    # The class is found by name: a run that fails early has not imported torch.
    known = ("LostProcessError", "NonFiniteLossError", "OutOfMemoryError")
    return isinstance(error, OmegaConfBaseException) or type(error).__name__ in known


def one_line(error: BaseException) -> str:
    """Return what went wrong, in one line that names the root cause and hides nothing."""
    return printable(_root(error))


def _root(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}"
    if type(error).__name__ == "InstantiationException":
        return _instantiation(error)
    text = str(error) or type(error).__name__
    if type(error).__name__ == "MissingMandatoryValue":
        key = getattr(error, "full_key", None) or "a value"
        return f"{key} has no default: set {key}=..."
    if type(error).__name__ == "OverrideParseException":
        return f"{getattr(error, 'override', '')!r} is no override: {_join(text)}"
    cause = error.__cause__
    if cause is not None and type(cause).__module__.startswith("omegaconf"):
        text = f"{text}\n{cause}"
    return _join(text)


def report(error: BaseException) -> None:
    """Write the line to stderr."""
    print(f"error: {one_line(error)}", file=sys.stderr, flush=True)


def _instantiation(error: BaseException) -> str:
    """Hydra wraps whatever a constructor raises; the innermost says what is wrong."""
    innermost = root = error
    while root.__cause__ is not None:
        if type(root).__name__ == "InstantiationException":
            innermost = root
        root = root.__cause__
    if isinstance(root, ValueError | OSError):
        return _root(root)
    found = re.search(r"full_key: (\S+)", str(innermost))
    place = f"{found.group(1)}: " if found else ""
    return place + _join(str(root))


def _join(text: str) -> str:
    """Join lines; lists that Hydra prints one per line are separated by commas."""
    text = text.split("Config search path:", maxsplit=1)[0]
    sentence = ""
    for line in text.splitlines():
        part = line.strip()
        if not part or part.startswith(("object_type=", "full_key:", "See https://hydra.cc")):
            continue
        if not sentence:
            sentence = part
        elif sentence.endswith((":", ",")):
            sentence += f" {part}"
        elif line.startswith(("\t", "  ")):
            sentence += f", {part}"
        else:
            sentence += f". {part}" if sentence[-1] not in ".;" else f" {part}"
    return sentence
