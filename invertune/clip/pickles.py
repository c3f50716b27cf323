"""Pickles of checkpoints, read by an interpreter that makes tensors and plain values alone.

A pickle is a program. Here its instructions are a short list, the functions that it may name are
those of `invertune.clip.pickle_values`, each of which only builds data, and no name is ever
imported. torch's own reader of weights is of this kind too, but what it allows depends on the
version that is installed, and it reads no TorchScript.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

from invertune.clip.pickle_values import Name, Odd, RefusedError, Script, Storage, View, named

MAX_TENSORS = 50_000
MAX_STEPS = 600_000  # of the pickle's program: a second or two, and beyond a real checkpoint
MAX_NAME = 1000  # characters of a key

Storages = Callable[[str, torch.dtype, int], Storage]

_KEYS = (str, int, bytes, bool, type(None))


class _Machine:
    """The stack of one pickle, and what each instruction does to it."""

    def __init__(self, storage: Storages) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.tensors = 0
        self.storage = storage

    def run(self, stream: IO[bytes]) -> Any:
        """Read one pickle from a stream, up to its end, and return what it describes."""
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if step > MAX_STEPS:
                raise ValueError(f"takes more than {MAX_STEPS} steps to read")
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, argument)
            elif opcode.name not in _NOTHING:
                raise RefusedError(f"has the instruction {opcode.name}, which no tensor needs")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            if at <= 0:
                raise RefusedError("takes from an empty stack")
            at -= 1
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def tuple_of(self, count: int) -> None:
        taken = self.stack[-count:]
        if len(taken) < count or any(value is _MARK for value in taken):
            raise RefusedError("takes from an empty stack")
        self.stack[-count:] = [tuple(taken)]

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or function.build is None:
            raise RefusedError("calls what is no function")
        if not isinstance(arguments, tuple):
            raise RefusedError("calls a function without arguments")
        made = function.build(*arguments)
        self.tensors += isinstance(made, View)
        if self.tensors > MAX_TENSORS:
            raise ValueError(f"has more than {MAX_TENSORS} tensors")
        self.stack.append(made)

    def new(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Name) or kind.build is not Script or arguments != ():
            raise RefusedError("makes an object of a class of its own")
        self.stack.append(Script())

    def set_state(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Script) and isinstance(state, dict) and not made.attributes:
            made.attributes.update(state)
        elif isinstance(made, np.dtype):
            if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|"):
                raise RefusedError("has numbers of another byte order")
        elif not isinstance(made, dict | Odd):  # the metadata of a state dict, an array's values
            raise RefusedError("sets what an object is made of")

    def set_items(self, made: Any, items: list[Any]) -> Any:
        if not isinstance(made, dict) or len(items) % 2:
            raise RefusedError("sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Of other keys, and of larger numbers, so many collide that a dict is never done.
            if not isinstance(key, _KEYS) or (isinstance(key, int) and abs(key) >> 60):
                raise RefusedError(f"has a {type(key).__name__} as a key")
            if isinstance(key, str | bytes) and len(key) > MAX_NAME:
                raise RefusedError(f"has a key of {len(key)} characters")
            made[key] = value
        return made

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items(self.stack[-1], [key, value])

    def extend(self, items: list[Any]) -> None:
        made = self.stack[-1]
        if not isinstance(made, list):
            raise RefusedError("appends to what is no list")
        made.extend(items)

    def named(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(named(module, name))

    def outside(self) -> None:
        told = self.stack.pop()
        if not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage":
            raise RefusedError("names something outside itself")
        kind, key, count = told[1], told[2], told[4]
        dtype = kind.dtype if isinstance(kind, Name) else None
        if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
            raise RefusedError("has a storage of no type")
        self.stack.append(self.storage(key, dtype, count))


_MARK = object()
_NOTHING = ("PROTO", "FRAME", "STOP")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK, "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list,
}  # fmt: skip
_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
)  # fmt: skip
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": lambda machine, _: machine.stack.append(machine.set_items({}, machine.since_mark())),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.since_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_item(),
    "SETITEMS": lambda machine, _: machine.set_items(*_owner(machine)),
    "BINPUT": lambda machine, place: machine.put(place),
    "LONG_BINPUT": lambda machine, place: machine.put(place),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "GLOBAL": lambda machine, names: machine.stack.append(named(*names.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.named(),
    "BINPERSID": lambda machine, _: machine.outside(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new(),
    "BUILD": lambda machine, _: machine.set_state(),
}


def _owner(machine: _Machine) -> tuple[Any, list[Any]]:
    items = machine.since_mark()
    return machine.stack[-1], items


def read_pickle(stream: IO[bytes], storage: Storages) -> Any:
    """Return what a pickle describes: plain values, and a `View` for each tensor.

    Args:
        stream: Read up to the end of the pickle.
        storage: Takes a storage's key, type and number of elements, and returns it.

    Raises:
        RefusedError: If it asks for what is no data.
        ValueError: If it is damaged, or too large.
    """

    try:
        return _Machine(storage).run(stream)
    except (
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        UnicodeError,
        OverflowError,
        RecursionError,
    ) as error:
        # What instructions of no pickle do to an interpreter.
        raise ValueError(f"has a damaged pickle ({type(error).__name__})") from error
