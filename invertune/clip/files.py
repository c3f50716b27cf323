"""Which files hold a model's weights: found, and hashed by what they hold, but not read here.

Nothing here imports torch: a sweep asks for hashes while it is planned.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from invertune.regular import read_json, require_regular, sub_object

HF_CONFIG, HF_INPUT = "config.json", "preprocessor_config.json"
OPEN_CLIP_CONFIG, CARD = "open_clip_config.json", "card.json"
_BESIDE = (HF_CONFIG, HF_INPUT, OPEN_CLIP_CONFIG, CARD)  # may say what no tensor tells
# open_clip's come first: a folder of the hub may hold an image tower alone as model.safetensors.
WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def find_weights(path: Path, usual: str | None = None) -> Path:
    """Return the file of a model's weights: ``path`` itself, or the one in that folder.

    Args:
        path: A file or a folder.
        usual: Name that the file of such a model has, such as ``RN50.pt``; counts in folders where
            several files could be meant.

    Raises:
        ValueError: If there is nothing of that name, if it is a file that stands beside weights, or
            a folder with no weights or with several.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; weights are a file, or a folder that holds one")
    if path.is_dir():
        return _in_folder(path, usual)
    require_regular(path)
    if path.suffix == ".json":
        raise ValueError(f"{path} holds no weights, but what is said of them: give its folder")
    return path


def _in_folder(folder: Path, usual: str | None) -> Path:
    if (folder / CARD).is_file():
        raise ValueError(
            f"{folder} is a checkpoint bundle, whose {CARD} says what it is; "
            f"invertune verify {folder} measures it"
        )
    named = [name for name in WEIGHTS if (folder / name).is_file()]
    others = sorted(one.name for one in folder.iterdir() if one.suffix in _SUFFIXES)
    if named:
        return folder / named[0]
    if usual in others:
        return folder / usual
    if len(others) == 1:
        return folder / others[0]
    wanted = ", ".join(WEIGHTS if usual is None else (usual, *WEIGHTS))
    if others:
        found = ", ".join(others)
        raise ValueError(f"{folder} holds {len(others)} files of weights, say which: {found:.200}")
    raise ValueError(f"{folder} is a folder without weights: it needs one of {wanted}")


def parts(weights: Path) -> list[Path]:
    """Return the files that hold tensors: those that an index names, else the file itself.

    Raises:
        ValueError: If an index names a file that does not lie beside it.
    """
    if weights.suffix != ".json":
        return [weights]
    listed = sub_object(read_json(weights), "weight_map").values()
    named = sorted({str(name) for name in listed})
    for shard in named:
        if Path(shard).name != shard or not (weights.parent / shard).is_file():
            raise ValueError(f"{weights} names the shard {shard!r:.80}, no file beside it")
    return [weights.parent / shard for shard in named]


def content_hash(path: Path, usual: str | None = None) -> str:
    """Return the SHA-256 of what a model is read of, 64 hexadecimal digits, wherever it lies.

    Of a file alone it is the file's own, as ``sha256sum`` shows it; with shards, or with files
    beside it that may say something of it, that of all their hashes.

    Args:
        path: A file or a folder, as `find_weights` takes it.
        usual: As there.

    Raises:
        ValueError: As `find_weights` does.
    """
    weights = find_weights(path, usual)
    held = [_sha256(part) for part in parts(weights)]
    said = {
        name: _sha256(weights.parent / name)
        for name in _BESIDE
        if (weights.parent / name).is_file()
    }
    if len(held) == 1 and not said:
        return held[0]
    listed = "".join(f"{one}\n" for one in (*held, *(f"{said[name]} {name}" for name in said)))
    return hashlib.sha256(listed.encode()).hexdigest()


def _sha256(path: Path) -> str:
    status = path.stat()
    require_regular(path)
    return _hashed(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=256)
def _hashed(path: Path, *_: int) -> str:
    """Return the hash of a file that is as its size, time and number say; read once a process."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
