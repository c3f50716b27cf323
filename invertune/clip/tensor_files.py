"""Tensors from files of strangers, without running anything of theirs."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from invertune.clip.architectures import FORMATS

_PREFIXES = ("module.", "_orig_mod.", "model.", "clip.")  # of DDP, torch.compile and wrappers


OPEN_CLIP_DEFAULT = "open_clip's default"


_STATE_KEYS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class RawCheckpoint:
    """What files hold, still under their own names, and what they say about the model."""

    kind: str
    state: dict[str, Tensor]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    quick_gelu: bool = False
    why: str | None = OPEN_CLIP_DEFAULT  # the activation is assumed; None: it is known
    heads: tuple[int, int] | None = None  # of the image and the text tower


def read_tensors(path: Path) -> RawCheckpoint:
    with path.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file starts with the length of its JSON header.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        try:
            content = safetensors.torch.load_file(path)
        except Exception as error:  # the library raises a type of its own
            raise ValueError(f"{path} is a damaged safetensors file: {error}") from error
        return _unwrapped(path, content, "safetensors weights in OpenAI/open_clip naming")
    content = _unpickled(path, head)
    return _unwrapped(path, content, "state dict in OpenAI/open_clip naming")


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch's reader finds entries whatever the case of their names.
            names = [entry.filename.lower() for entry in entries]
            sources = [archive.read(e) for e, n in zip(entries, names, strict=True) if "code/" in n]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if len(set(names)) < len(names):
        raise ValueError(f"{path} is refused: two entries of the archive have the same name")
    # The one method that TorchScript itself would run while it reads the file.
    if any(b"__setstate__" in source for source in sources):
        raise ValueError(
            f"{path} is refused: its TorchScript has a __setstate__, code that runs when it is read"
        )
    return bool(sources) and any(name.endswith("/constants.pkl") for name in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; there is no other reader
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # of any type, in a damaged file
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is a damaged TorchScript archive: {reason}") from error
    return dict(module.state_dict())


def _unpickled(path: Path, head: bytes) -> Any:
    # Mapped, the optimizer's state is never read; only torch's newer format, a zip, can be mapped.
    mapped = head.startswith(b"PK\x03\x04")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of what is then refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of any type, when bytes that are no pickle are read as one
        if isinstance(error, pickle.UnpicklingError) and (mapped or head.startswith(b"\x80")):
            raise ValueError(_refusal(path, str(error))) from error
        raise ValueError(f"{path} is no checkpoint; choices: {FORMATS}") from error


def _refusal(path: Path, message: str) -> str:
    asked = re.search(r"GLOBAL (\S+)", message)
    if asked:
        reason = f"asks for the global {asked[1]}, which is no tensor"
    else:
        found = re.search(r"WeightsUnpickler error:\s*(.+)", message)
        reason = f"holds more than tensors ({found[1] if found else 'in a form of its own'})"
    return f"{path} is refused: its pickle {reason} and is not executed; save a state dict alone"


def _unwrapped(path: Path, content: Any, kind: str) -> RawCheckpoint:
    """Take the tensors out of a checkpoint's dict, and name who writes such a dict."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    wrapper = next((key for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), None)
    inner = content if wrapper is None else content[wrapper]
    state = {k: v for k, v in inner.items() if isinstance(k, str) and isinstance(v, Tensor)}
    state, parallel = _without_prefixes(state)
    if wrapper is None:
        return RawCheckpoint(kind, state, (path,))
    notes = [f"{key} {content[key]!r:.80}" for key in ("epoch", "name") if key in content]
    left_out = sorted(str(key) for key in content if key not in (wrapper, "epoch", "name"))
    notes += [f"left out: {', '.join(left_out):.200}"] if left_out else []
    raw = RawCheckpoint("open_clip training checkpoint", state, (path,), tuple(notes))
    # Both write the same dict, but open_clip adds a scaler, and unwraps its model first.
    if parallel and "scaler" not in content:
        kind = "CleanCLIP-family checkpoint (module. prefixes)"
        return replace(raw, kind=kind, quick_gelu=True, why="its code is OpenAI's")
    why = f"{OPEN_CLIP_DEFAULT}; CleanCLIP on one GPU writes the same dict and has QuickGELU"
    return replace(raw, why=why)


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return the state without prefixes that all names share, and whether DDP's was among them."""
    parallel = False
    while state:
        shared = [p for p in _PREFIXES if all(name.startswith(p) for name in state)]
        if not shared:
            break
        parallel |= shared[0] == "module."
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    return state, parallel


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no object, but a {type(content).__name__}")
    return content


def sub_object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}
