"""Sound files that say something impossible: types, sizes and nestings that no model has."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DEPTH = 100_000
_SAFE_TYPES = ("F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "F4", "Q4")
_SIZES = (0, -1, 1, 3, 2**31, 2**62, 1.5, "x", None, [])


def header(rng: random.Random, path: Path) -> None:
    """Change types, shapes, offsets and metadata in a safetensors header that stays well formed."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    names = [name for name in head if name != "__metadata__"]
    for name in rng.sample(names, min(len(names), rng.choice([1, 1, 4]))):
        entry, kind = head[name], rng.randrange(6)
        if kind == 0:
            entry["dtype"] = rng.choice(_SAFE_TYPES)
        elif kind == 1 and entry["shape"]:
            entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(_SIZES)
        elif kind == 2:
            entry["data_offsets"][rng.randrange(2)] += rng.choice([-8, -2, 1, 2, 8, 2**40])
        elif kind == 3:
            head[f"module.{name}" if rng.random() < 0.5 else f"{name}.more"] = head.pop(name)
        elif kind == 4:
            entry["shape"] = [1] * rng.choice([5, 64, 5000]) + entry["shape"]
        else:
            head["__metadata__"] = _metadata(rng)
    raw = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])


def _metadata(rng: random.Random) -> Any:
    config = {"embed_dim": rng.choice([32, 10**7]), "vision_cfg": {"layers": rng.choice(_SIZES)}}
    return rng.choice([{"open_clip_config": json.dumps(config)}, {"open_clip_config": 3}, [], "x"])


def tensors(rng: random.Random, path: Path) -> None:
    """Write a state dict anew with tensors of other types, shapes and strides, or odd values."""
    import torch

    loaded = torch.load(path, weights_only=False)  # our own, of a moment ago
    state = loaded.get("state_dict", loaded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in rng.sample(sorted(state), rng.choice([1, 1, 2, len(state)])):
            state[name] = _changed(rng, state[name])
        # What torch itself cannot write stays as it was.
        with contextlib.suppress(RuntimeError, KeyError), io.BytesIO() as buffer:
            torch.save(loaded, buffer, _use_new_zipfile_serialization=rng.random() < 0.7)
            path.write_bytes(buffer.getvalue())


def _changed(rng: random.Random, tensor: Any) -> Any:
    import torch

    types = [one for one in vars(torch).values() if isinstance(one, torch.dtype)]
    odd = [None, 3, "x", [tensor], torch.Size([3]), {"nested": tensor}]
    change: Callable[[], Any] = rng.choice([
        lambda: tensor.to(rng.choice(types)),
        lambda: torch.empty(tensor.shape, dtype=rng.choice(types)),
        lambda: tensor.flatten()[:1].expand(rng.choice([2, 10**6, 2**40]), *tensor.shape[1:]),
        lambda: tensor.t() if tensor.dim() == 2 else tensor[None],
        lambda: torch.full_like(tensor, rng.choice([float("nan"), float("inf"), 0])),
        lambda: tensor.to_sparse() if rng.random() < 0.5 else tensor.to("meta"),
        lambda: torch.nn.Parameter(tensor[..., :0]),
        lambda: rng.choice(odd),
    ])  # fmt: skip
    try:
        return change()
    except (RuntimeError, TypeError, IndexError):  # no such tensor can be made
        return None


def nested(rng: random.Random, path: Path) -> None:
    """Nest something a hundred thousand deep, or let it hold itself."""
    if path.suffix == ".json":
        text = path.read_text()
        at = rng.choice([i for i, sign in enumerate(text) if sign in ":["]) + 1
        piece = rng.choice(["[", '{"a":']) * rng.choice([50, 2000, _DEPTH])
        path.write_text(text[:at] + piece + text[at:])
        return
    itself: list[Any] = []
    itself.append(itself)
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    deep = b"]" * _DEPTH + b"a" * (_DEPTH - 1) + b"."
    plain = rng.choice([pickle.dumps(itself), pickle.dumps(loop), b"\x80\x02" + deep])
    if rng.random() < 0.5:
        path.write_bytes(plain)
        return
    import torch

    holder = {"state_dict": {"a": torch.ones(1)}, "epoch": rng.choice([itself, loop])}
    torch.save(holder, path)
