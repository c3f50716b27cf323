from __future__ import annotations

import errno
import os

import pytest
from hydra.errors import InstantiationException

from experiments.errors import is_user_error, one_line
from invertune.finite import NonFiniteLossError


def _wrapped(cause: Exception) -> Exception:
    outer = InstantiationException("Error in call to target 'X':\nlong\nfull_key: attack.trigger")
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("size is 1"), "size is 1"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs"), "runs: No space left on device"),
        (_wrapped(ValueError("size is 1")), "size is 1"),
        (_wrapped(TypeError("unexpected x")), "attack.trigger: unexpected x"),
        (ValueError("Could not:\n\ta\n\tb\nConfig search path:\n\tc"), "Could not: a, b"),
        (ValueError("a\x1b[2J\nb\u202ec\x00"), r"a\x1b[2J. b\u202ec\x00"),
        (FileNotFoundError(2, "No such file", "a\nerror: b\x1b"),
         r"a\nerror: b\x1b: No such file"),
        (_wrapped(ValueError("size\x1b is 1")), r"size\x1b is 1"),
        (NonFiniteLossError("pretrain", 3, float("nan")),
         "pretrain: the loss is nan at step 3; lower the learning rate"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_about_its_root(error: Exception, line: str) -> None:
    assert is_user_error(error)
    assert one_line(error) == line


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert not is_user_error(TypeError("x"))
    assert not is_user_error(RuntimeError("x"))
