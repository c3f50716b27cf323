"""What every trigger is, and its files."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, cast

import safetensors.torch
import torch
from torch import Tensor

from invertune.clip.weights import count_tensors
from invertune.regular import parse_json, read_text

# Sizes and displacements are given in pixels of an image of this side, CLIP's, and keep their
# share of the image at others.
REFERENCE_SIDE = 224
STATE, TENSORS = "trigger.json", "trigger.safetensors"
_HOME = "attacks.triggers."


class Trigger(Protocol):
    """A frozen dataclass that stamps images; its fields are its whole state."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return stamped copies of ``images``, (B, 3, H, W) in [0, 1], rounded to 8 bit."""


def round_to_8_bit(images: Tensor) -> Tensor:
    """Return the values that survive saving as an 8-bit image, in [0, 1]."""
    return images.clamp(0, 1).mul(255).round().div(255)


def scaled(pixels: float, side: int) -> int:
    """Return the length, in pixels of an image of ``side``, of ``pixels`` at 224."""
    return round(pixels * side / REFERENCE_SIDE)


def each_generator(images: Tensor, seed: int) -> Iterator[torch.Generator]:
    """Yield a generator for each image, which the seed and the image itself decide.

    For triggers that other codebases draw anew in every call: here too no two images have the same
    one, but an image always has its own, so that what is measured can be measured again.
    """
    pixels = images.clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    for image in pixels:
        digest = hashlib.sha256(image.contiguous().numpy().tobytes() + str(seed).encode()).digest()
        yield torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def trigger_state(trigger: Trigger) -> dict[str, Any]:
    """Return the class and the plain fields of a trigger; `trigger_tensors` has the others."""
    kind, values = type(trigger), _fields(trigger)
    plain = {name: value for name, value in values.items() if not _holds_tensors(value)}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **plain}


def trigger_tensors(trigger: Trigger) -> dict[str, Tensor]:
    """Return the tensors of a trigger: patches, warps, and the weights of networks by name."""
    tensors = {}
    for name, value in _fields(trigger).items():
        if isinstance(value, Tensor):
            tensors[name] = value.contiguous()
        elif _holds_tensors(value):
            tensors |= {f"{name}/{inner}": tensor.contiguous() for inner, tensor in value.items()}
    return tensors


def _fields(trigger: Trigger) -> dict[str, Any]:
    return {field.name: getattr(trigger, field.name) for field in fields(cast(Any, trigger))}


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(item, Tensor) for item in value.values())
    return isinstance(value, Tensor)


def save_trigger(trigger: Trigger, folder: Path) -> None:
    """Write ``trigger.json`` and, where the trigger has tensors, ``trigger.safetensors``."""
    text = json.dumps(trigger_state(trigger), indent=1)
    (folder / STATE).write_text(text, encoding="utf-8")
    tensors = trigger_tensors(trigger)
    if tensors:
        safetensors.torch.save_file(tensors, folder / TENSORS)


def load_trigger(folder: Path) -> Trigger:
    """Read what `save_trigger` wrote.

    Raises:
        OSError: If there is no ``trigger.json``.
        ValueError: If it is damaged or names a class outside ``attacks.triggers``, or if the
            tensors are not those of the class.
    """
    path = folder / STATE
    try:
        state = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no trigger: {error}") from error
    kind = _trigger_class(state.pop("_target_", ""), path)
    state |= _read_tensors(folder / TENSORS)
    try:
        return cast(Trigger, kind(**state))
    except TypeError as error:
        raise ValueError(f"{path} is no {kind.__name__}: {error}") from error


def _trigger_class(target: str, path: Path) -> type:
    module, _, name = target.rpartition(".")
    kind = None
    if target.startswith(_HOME):
        with contextlib.suppress(ImportError):
            kind = getattr(importlib.import_module(module), name, None)
    # A module also holds what it imports.
    if not (isinstance(kind, type) and kind.__module__.startswith(_HOME)):
        raise ValueError(f"{path} names {target!r}; a trigger is a class of {_HOME[:-1]}")
    return kind


def _read_tensors(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        count_tensors(path)
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the library raises a type of its own
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        field, _, inner = name.partition("/")
        if inner:
            found.setdefault(field, {})[inner] = tensor
        else:
            found[field] = tensor
    return found
