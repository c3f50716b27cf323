"""Ways to damage a file, or to make it hostile: what `fuzz_files` does to its copies."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.stress import tensor_mutations

ODD: list[Any] = [
    None, True, -1, 0, 10**12, 1e308, float("nan"), "", "x" * 10**5, "../../x", "/etc/passwd",
    "\x1b[31mred\r\nevery rate is the same", "${oc.env:HOME}", [], {}, [[[[[]]]]],
    {"_target_": "os.system"}, "roberta-ViT-B-32", [0] * 10**4,
]  # fmt: skip


class Payload:
    """Unpickled freely, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def cut(rng: random.Random, path: Path, _: Path) -> None:
    """Cut the end off."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def flip(rng: random.Random, path: Path, _: Path) -> None:
    """Flip some bits, most of them near the ends, where the headers are."""
    content = bytearray(path.read_bytes())
    for _flip in range(rng.choice([1, 1, 2, 8, 64])):
        near = min(len(content), 4000)
        place = rng.choice(
            [rng.randrange(len(content)), rng.randrange(near), -1 - rng.randrange(near)]
        )
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def splice(rng: random.Random, path: Path, _: Path) -> None:
    """Move, repeat or overwrite a piece."""
    content = path.read_bytes()
    one, other = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    piece = rng.choice([content[one:other], bytes(rng.randrange(64)), b"\xff" * 8, content])
    path.write_bytes(content[:one] + piece + content[rng.choice([one, other]) :])


def odd_file(rng: random.Random, path: Path, _: Path) -> None:
    """Put something else in the place of the file."""
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        path.symlink_to(path)
    elif kind == 4:
        path.write_bytes(b"")


def payload(rng: random.Random, path: Path, canary: Path) -> None:
    """Put a pickle that would run code into the file, in one of torch's forms."""
    import torch

    content = {"state_dict": {"a": torch.ones(1)}, "more": Payload(canary)}
    form = rng.randrange(4)
    if form == 0:
        torch.save(content, path)
    elif form == 1:
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=rng.randrange(6)))
    if form == 3 and path.stat().st_size > 30:
        flip(rng, path, canary)


def opcodes(rng: random.Random, path: Path, canary: Path) -> None:
    """Change instructions of the pickle in an archive, or swap, repeat and rename its members."""
    if not zipfile.is_zipfile(path):
        return flip(rng, path, canary)
    with zipfile.ZipFile(path) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(members))
    kind = rng.randrange(5)
    for place, (name, content) in enumerate(members):
        if kind == 0 and name.endswith("data.pkl"):
            changed = bytearray(content)
            for _ in range(rng.choice([1, 2, 16])):
                changed[rng.randrange(len(changed))] = rng.choice(
                    pickle.__dict__["REDUCE"] + b"cibo.0(}]Qh\x81\x93\x82ut"
                )
            members[place] = (name, bytes(changed))
        elif kind == 1 and name.endswith("data.pkl"):
            members[place] = (name, pickle.dumps(Payload(canary), protocol=2))
    if kind == 2:
        other = rng.randrange(len(members))
        (one, first), (two, second) = members[at], members[other]
        members[at], members[other] = (one, second), (two, first)
    elif kind == 3:
        members.append((members[at][0], b"again"))
    packing = zipfile.ZIP_LZMA if kind == 4 else zipfile.ZIP_STORED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return None


def values(rng: random.Random, path: Path, canary: Path) -> None:
    """Change values of a JSON file, or of the JSON in a safetensors header; seal it again."""
    if path.suffix != ".json":
        return flip(rng, path, canary)
    content = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 3])):
        at, key = rng.choice(list(_places(content)))
        kind = rng.randrange(4)
        if kind == 0 and isinstance(at, dict):
            del at[key]
        elif kind == 1:
            _, other = place = rng.choice(list(_places(content)))
            at[key] = json.loads(json.dumps(place[0][other]))
        else:
            at[key] = rng.choice(ODD)
        if not content:
            break
    path.write_text(json.dumps(content))
    if rng.random() < 0.8:
        _seal(path)
    return None


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def swap(rng: random.Random, path: Path, _: Path) -> None:
    """Swap two files of the folder."""
    other = rng.choice([p for p in path.parent.iterdir() if p.is_file()])
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def impossible(rng: random.Random, path: Path, canary: Path) -> None:
    """Write a sound file that says something impossible."""
    if path.suffix == ".safetensors":
        return tensor_mutations.header(rng, path)
    if path.suffix == ".json":
        fields(rng, path)
        return _seal(path)
    if path.name in ("new.pt", "old.pt"):
        return tensor_mutations.tensors(rng, path)
    return flip(rng, path, canary)


def fields(rng: random.Random, path: Path) -> None:
    """Change many numbers and texts of a JSON file at once, each to one of its own kind."""
    content = json.loads(path.read_text())
    leaves = [
        (at, key) for at, key in _places(content)
        if not (isinstance(at[key], dict | list) and at[key])
    ]  # fmt: skip
    for at, key in rng.sample(leaves, min(len(leaves), rng.choice([3, 8, 20]))):
        value = at[key]
        if isinstance(value, bool):
            at[key] = not value
        elif isinstance(value, int | float):
            scale = rng.choice([0, -1, 0.5, 2, 3, 1000, 10**7])
            at[key] = type(value)(value * scale) + rng.choice([0, 1])
        elif isinstance(value, str):
            at[key] = rng.choice([value[::-1], value * 2, value[:3], "rn50_mini", "invertune.x.Y"])
        else:
            at[key] = rng.choice(ODD)
    path.write_text(json.dumps(content))


def nested(rng: random.Random, path: Path, canary: Path) -> None:
    """Nest something deep, or let it hold itself."""
    if path.suffix in (".json", ".pt", ".safetensors"):
        return tensor_mutations.nested(rng, path)
    return flip(rng, path, canary)


def _seal(path: Path) -> None:
    """Write a changed file's own hash into it, so that more than the hash is compared."""
    from experiments.files import digest

    content = json.loads(path.read_text())
    if isinstance(content, dict) and "sha256" in content:
        with contextlib.suppress(ValueError):
            content["sha256"] = digest({k: v for k, v in content.items() if k != "sha256"})
            path.write_text(json.dumps(content))


CHANGES: list[Callable[[random.Random, Path, Path], None]] = [
    cut, flip, flip, splice, odd_file, payload, opcodes, opcodes, values, values, values, swap,
    impossible, impossible, impossible, nested,
]  # fmt: skip
