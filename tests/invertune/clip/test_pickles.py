from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invertune.clip import pickles
from invertune.clip.pickle_values import Odd, RefusedError, Storage
from invertune.clip.pickles import read_pickle


def _no_storage(key: str, dtype: torch.dtype, count: int) -> Storage:
    raise AssertionError(f"{key}, {dtype}, {count}")


def _read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), _no_storage)


PLAIN = {
    "epoch": 3, "none": None, "flags": (True, False), 5: [1.5, -2, 10**12, "text"],
    "nested": {"list": [[], [{}]]}, "bytes": b"raw", "long": [*range(300)],
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_what_pickle_gives(protocol: int) -> None:
    assert _read(pickle.dumps(PLAIN, protocol)) == PLAIN
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    assert list(_read(pickle.dumps(ordered, protocol)).items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("number", [np.float64(0.125), np.float32(2.5), np.int64(-7), np.bool_(1)])
def test_numbers_of_numpy_are_numbers(number: Any, protocol: int) -> None:
    found = _read(pickle.dumps({"lr": number}, protocol))["lr"]
    assert found == number.item()
    assert type(found) is type(number.item())


def test_a_number_of_numpy_by_its_old_name() -> None:
    content = pickle.dumps(np.float64(0.125), 2).replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )
    assert b"numpy._core" not in content
    assert _read(content) == 0.125


def test_an_array_of_numpy_is_left_as_it_is() -> None:
    for protocol in (2, 5):
        found = _read(pickle.dumps({"mask": np.ones((3, 3)), "after": 1}, protocol))
        assert found == {"mask": Odd("numpy array"), "after": 1}


class _Payload:
    """Unpickled freely, it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_what_is_more_than_data_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    for value in (_Payload(tmp_path / "ran"), argparse.Namespace(lr=1), print, Path("a"), 1 + 2j):
        with pytest.raises(RefusedError, match=r"asks for the global|has the instruction"):
            _read(pickle.dumps({"a": value}, protocol))
    assert not (tmp_path / "ran").exists()


def _op(*names: str) -> bytes:
    return b"".join(getattr(pickle, name) for name in names)


def _text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


ORDERED = b"ccollections\nOrderedDict\n"
TRICKS = {
    "sets an attribute of a function": b"c_codecs\nencode\n}" + _text("a") + b"K\x01sb.",
    "sets an attribute of a class": ORDERED + b"}" + _text("__reduce__") + b"K\x01sb.",
    "calls a value": _text("a") + b")R.",
    "makes an object of a class": ORDERED + b")\x81.",
    "a dict that a list makes": ORDERED + b"(](K\x01K\x02eetR.",
    "a number that is a key of many": b"}\x8a\x09" + bytes(7) + b"\x10\x00K\x01s.",
    "a tuple as a key": b"})K\x01s.",
    "a list of no list": b"}K\x01a.",
    "an item of no dict": b"]K\x01K\x02s.",
    "nothing on the stack": b"0.",
    "no mark": b"K\x01t.",
    "a place never put": b"h\x05.",
    "something outside": _text("a") + b"Q.",
    "an extension": b"\x82\x01.",
    "a codec": b"c_codecs\nencode\n(" + _text("a") + _text("zip") + b"tR.",
    "no end": b"K\x01",
    "a name that is no text": b"K\x01K\x02\x93.",
    "a name that doubles": b"(tq\x00" + b"h\x00h\x00\x86q\x00" * 60 + _text("a") + b"\x93.",
    "a type without memory of its own": b"ctorch\nquint4x2\n.",
    "a type of one bit": b"ctorch\nbit\n.",
    "a key without end": b"}X\xe8\x03\x01\x00" + b"k" * 66536 + b"K\x01s.",
    "a module set twice": b"c__torch__\nM\n)\x81}" + _text("a") + b"K\x01sb}bb.",
    "another version": b"\x80\xff.",
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_instructions_that_no_pickle_of_data_has_end_in_one_error(trick: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        _read(TRICKS[trick])


def test_what_a_pickle_says_changes_nothing_here() -> None:
    before = dict(vars(pickles)), dict(vars(collections.OrderedDict))
    for trick in TRICKS.values():
        with pytest.raises(ValueError, match=r"\S"):
            _read(trick)
    assert (dict(vars(pickles)), dict(vars(collections.OrderedDict))) == before
    assert pickle.loads(pickle.dumps(PLAIN)) == PLAIN


def test_a_place_of_any_number_takes_no_memory() -> None:
    assert _read(b"K\x07r\xff\xff\xff\xff.") == 7  # the library in C allots 64 GiB for it


def test_deep_nesting_is_read() -> None:
    found = _read(b"]" * 100_000 + b"a" * 99_999 + b".")
    for _ in range(10):
        (found,) = found
    # Taken apart by hand: comparing or printing it would go as deep.
    while found:
        found = found.pop()


def test_a_program_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_STEPS", 1000)
    with pytest.raises(ValueError, match="takes more than 1000 steps to read"):
        _read(b"N0" * 600 + b"N.")
    tensors = b"".join(
        b"ctorch._utils\n_rebuild_parameter\n(N\x89Ntr\x01\x00\x00\x00R0" for _ in range(3)
    )
    assert _read(tensors + b"N.") is None
