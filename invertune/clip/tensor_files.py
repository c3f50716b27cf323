"""Tensors from files of strangers, without running anything of theirs.

Three containers hold tensors: safetensors, torch's zip archives (TorchScript's are such too), and
what torch wrote before them, pickles with the storages' bytes behind. A file's first bytes tell
which it is, whatever its name. Neither torch.load nor torch.jit ever sees a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from invertune.clip.pickle_values import Odd, Script, View
from invertune.clip.pickles import MAX_TENSORS
from invertune.clip.torch_files import flat, read_torch
from invertune.regular import require_regular

_WRAPPERS = ("module.", "_orig_mod.")  # of DDP and torch.compile
_PREFIXES = (*_WRAPPERS, "model.", "clip.")
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_NAMING = "in OpenAI/open_clip naming"
_TRAINING = "training checkpoint of open_clip, CleanCLIP or the like"
_POINTER = b"version h"  # of what Git LFS leaves in place of a file
_LONGEST_NAME = 200  # characters of a run's name
_ARRAY = Odd("numpy array")


@dataclass(frozen=True)
class RawCheckpoint:
    """What files hold, still under their own names.

    Attributes:
        kind: What it is, in words.
        state: The tensors, on the memory of the file.
        files: What was read.
        notes: What else is to be known.
        run: Name of the run that wrote it, where it says so.
        openai: Whether only OpenAI's own models have this form.
        metadata: What a safetensors file says beside its tensors.
    """

    kind: str
    state: dict[str, Tensor]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    run: str | None = None
    openai: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_tensors(path: Path) -> RawCheckpoint:
    """Return the tensors of one file.

    Raises:
        ValueError: If it is no regular file, no checkpoint, damaged, or holds more than data.
    """
    size = require_regular(path)
    with path.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file starts with the length of its JSON header.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        tensors, metadata = _safetensors(path)
        raw = _unwrapped(path, tensors, f"safetensors weights {_NAMING}")
        return replace(raw, metadata=metadata)
    if head == _POINTER:
        raise ValueError(f"{path} is a pointer of Git LFS, not the file itself: git lfs pull")
    content = read_torch(path)
    if isinstance(content, Script):
        state = _tensors(path, flat(path, content))
        return RawCheckpoint("OpenAI TorchScript archive", state, (path,), openai=True)
    return _unwrapped(path, content, f"state dict {_NAMING}")


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if len(names) > MAX_TENSORS:
                raise ValueError(f"it has more than {MAX_TENSORS} tensors")
            tensors = {name: opened.get_tensor(name) for name in names}
            return tensors, opened.metadata() or {}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the library raises a type of its own
        raise ValueError(f"{path} is a damaged safetensors file: {error}") from error


def _unwrapped(path: Path, content: Any, kind: str) -> RawCheckpoint:
    """Take the tensors out of a checkpoint's dict, and say who writes such a dict."""
    if not isinstance(content, Mapping):
        _require_tensors(path, content, {})
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    wrapper = next((key for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), None)
    inner = content if wrapper is None else content[wrapper]
    described = {name: value for name, value in inner.items() if _is_weight(name, value)}
    _require_tensors(path, content, described)
    state = _tensors(path, _without_prefixes(described))
    if wrapper is None:
        return RawCheckpoint(kind, state, (path,))
    told = {key: content[key] for key in ("epoch", "name") if _is_short(content.get(key))}
    notes = [f"{key} {value!r}" for key, value in told.items()]
    left_out = sorted(str(key) for key in content if key not in (wrapper, *told))
    notes += [f"left out: {', '.join(left_out):.200}"] if left_out else []
    run = told.get("name")
    return RawCheckpoint(
        _TRAINING, state, (path,), tuple(notes), run if isinstance(run, str) else None
    )


def _require_tensors(path: Path, content: Any, described: Mapping[str, Any]) -> None:
    """Say what a file without tensors is.

    Raises:
        ValueError: If there is no tensor, but arrays of numpy.
    """
    arrays = 0 if described else sum(1 for one in _leaves(content) if one == _ARRAY)
    if arrays:
        raise ValueError(
            f"{path} holds numpy arrays alone ({arrays}), such as masks and patterns of inverted "
            "triggers, and no model"
        )


def _leaves(content: Any) -> Iterator[Any]:
    """Yield what dicts, lists and tuples hold, however deep, each of them once."""
    waiting, seen = [content], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Mapping | list | tuple):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, Mapping) else one)


def _is_weight(name: object, value: object) -> bool:
    odd = isinstance(value, Odd) and "tensor" in value.what  # named in an error
    return isinstance(name, str) and (odd or isinstance(value, View | Tensor))


def _is_short(value: object) -> bool:
    number = isinstance(value, int | float) and abs(value) < 1e15
    return number or (isinstance(value, str) and len(value) <= _LONGEST_NAME)


def _without_prefixes(described: dict[str, Any]) -> dict[str, Any]:
    """Return what is described without the prefixes that all names share."""
    described = {_bare(name): value for name, value in described.items()}
    while described:
        shared = [p for p in _PREFIXES if all(name.startswith(p) for name in described)]
        if not shared:
            break
        described = {name.removeprefix(shared[0]): value for name, value in described.items()}
    # torch.compile of a part of a model leaves its prefix in the middle.
    return {name.replace("._orig_mod.", "."): value for name, value in described.items()}


def _bare(name: str) -> str:
    """Return a name without the prefixes of DDP and torch.compile, whatever their order."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _tensors(path: Path, described: Mapping[str, View | Odd | Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are described, on the memory of the file.

    Raises:
        ValueError: If one is sparse or the like, or reaches beyond its storage.
    """
    state = {}
    for name, value in described.items():
        if isinstance(value, Odd):
            raise ValueError(f"{path}: {name} is no dense tensor of real numbers")
        try:
            state[name] = value if isinstance(value, Tensor) else value.tensor()
        except (ValueError, RuntimeError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{path}: {name:.80}: {reason:.200}") from error
    return state
