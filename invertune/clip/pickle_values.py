"""What pickles of checkpoints may name, and what stands for it: data, never code.

Every function here takes whatever a stranger's pickle gives it, and has to stay small whatever that
is: nothing is copied that could be long, and nothing is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST_DIMENSIONS = 8
_LONGEST_NAME = 300
_LONGEST_NUMBER = 16  # bytes of a number of numpy


class RefusedError(ValueError):
    """What a pickle asks for is no data."""


@dataclass
class Storage:
    """A tensor's memory: bytes of the file.

    Attributes:
        dtype: Of its elements.
        count: Number of elements.
        content: The bytes; None until they are known.
    """

    dtype: torch.dtype
    count: int
    content: memoryview | None = None


@dataclass(frozen=True)
class View:
    """A tensor that a pickle describes; its storage may still have to be read.

    Attributes:
        storage: Its memory.
        dtype: Of its elements; the storage may be mere bytes.
        size, stride: Of each dimension, in elements.
        offset: Of the first element, in elements.
    """

    storage: Storage
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def tensor(self) -> Tensor:
        """Return the tensor, on the memory of the file.

        Raises:
            ValueError: If it reaches beyond its storage.
        """
        if 0 in self.size:
            return torch.empty(self.size, dtype=self.dtype)
        content = self.storage.content
        steps = zip(self.size, self.stride, strict=True)
        end = self.offset + sum((n - 1) * step for n, step in steps) + 1
        if content is None or end * self.dtype.itemsize > len(content):
            raise ValueError(f"a tensor of shape {list(self.size)} reaches beyond its storage")
        part = content[self.offset * self.dtype.itemsize : end * self.dtype.itemsize]
        if np.frombuffer(part, dtype=np.uint8).ctypes.data % self.dtype.itemsize:
            part = memoryview(bytearray(part))  # aligned, as torch has tensors
        return torch.frombuffer(part, dtype=self.dtype).as_strided(self.size, self.stride)


@dataclass(frozen=True)
class Odd:
    """A value that is read but not built: a sparse or quantized tensor, an array of numpy."""

    what: str


@dataclass
class Script:
    """A module of a TorchScript archive: what it holds, and nothing of what it does."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Name:
    """A name that a pickle says, and what stands for it.

    Attributes:
        name: The name.
        build: What is called in its place; None where it is no function.
        dtype: Of the elements, where it is that of a storage or itself a type.
    """

    name: str
    build: Callable[..., Any] | None = None
    dtype: torch.dtype | None = None


def named(module: object, name: object) -> Name:
    """Return what stands for a name of a pickle.

    Raises:
        RefusedError: If it is none of those that tensors and plain values need.
    """
    if not all(isinstance(part, str) and len(part) <= _LONGEST_NAME for part in (module, name)):
        raise RefusedError("asks for a global without a name")
    full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
    if full.startswith("__torch__."):
        return Name(full, Script)
    if full in _BUILDERS:
        return Name(full, _BUILDERS[full])
    if full in _VALUES:
        return Name(full)
    if module in ("torch", "torch.storage") and name in _STORAGES:
        return Name(full, dtype=_STORAGES[str(name)])
    # Of the others some have no memory of their own, and end the process when it is made.
    dtype = vars(torch).get(str(name)) if full in _DTYPES else None
    if isinstance(dtype, torch.dtype):
        return Name(full, dtype=dtype)
    raise RefusedError(f"asks for the global {module}.{name}, which is no tensor")


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> View:
    if not isinstance(storage, Storage):
        raise RefusedError("has a tensor without a storage")
    return _described(storage, storage.dtype, offset, size, stride)


def _view_of_type(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> View:
    dtype = next((part.dtype for part in rest if isinstance(part, Name) and part.dtype), None)
    if not isinstance(storage, Storage) or dtype is None:
        raise RefusedError("has a tensor without a storage")
    return _described(storage, dtype, offset, size, stride)


def _described(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> View:
    plain = all(isinstance(shape, tuple | list) for shape in (size, stride))
    if not plain or len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise RefusedError("has a tensor without a shape")
    if any(
        type(number) is not int or not 0 <= number < 2**62 for number in (*size, *stride, offset)
    ):
        raise RefusedError("has a tensor without a shape")
    return View(storage, dtype, tuple(size), tuple(stride), offset)


def _data(data: Any, *_: Any) -> Any:
    return data


def _of_type(function: Any, _type: Any, values: Any, _state: Any) -> Any:
    if not isinstance(function, Name) or function.build not in (_view, _view_of_type, _data):
        raise RefusedError("has a tensor of a type of its own")
    return function.build(*values)


def _odd(what: str) -> Callable[..., Odd]:
    return lambda *_: Odd(what)


def _mapping(*items: Any) -> dict[Any, Any]:
    if items:
        raise RefusedError("has a dict that is not set item by item")
    return {}


def _number(kind: Any, raw: Any = b"") -> Any:
    if not isinstance(kind, np.dtype) or not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise RefusedError("has a number of numpy without a value")
    return np.frombuffer(raw, kind)[0].item()


def _number_type(code: Any, *_: Any) -> Any:
    plain = isinstance(code, str) and code[:1] in tuple("biuf") and code[1:] in ("1", "2", "4", "8")
    return np.dtype(code) if plain else Odd("numpy type")


def _encoded(text: Any, encoding: Any) -> Any:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("has bytes in a form of their own")
    return text.encode("latin1") if len(text) <= _LONGEST_NUMBER else Odd("bytes")


_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _view_of_type,
    "torch._utils._rebuild_parameter": _data,
    "torch._utils._rebuild_parameter_with_state": _data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_qtensor": _odd("quantized tensor"),
    "torch._utils._rebuild_sparse_tensor": _odd("sparse tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _odd("tensor without data"),
    "torch.device": _odd("device"),
    "torch.Size": _data,
    "torch.serialization._get_layout": _odd("layout"),
    "torch.jit._pickle.build_intlist": _data,
    "torch.jit._pickle.build_doublelist": _data,
    "torch.jit._pickle.build_boollist": _data,
    "torch.jit._pickle.build_tensorlist": _data,
    "torch.jit._pickle.restore_type_tag": _data,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda *_: {},
    "_codecs.encode": _encoded,
    "numpy.dtype": _number_type,
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.multiarray._reconstruct": _odd("numpy array"),
    "numpy.core.numeric._frombuffer": _odd("numpy array"),
}
_VALUES = (
    "numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter",
    "torch.per_tensor_affine", "torch.per_channel_affine",
)  # fmt: skip
_DTYPES = {
    f"torch.{name}"
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
        "float8_e5m2fnuz", "complex64", "complex128",
    )
}  # fmt: skip
_STORAGES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8, "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
