from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from invertune.clip.files import content_hash, find_weights, parts


def _write(path: Path, content: str = "weights") -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["a.pt"], "a.pt"),
        (["a.pth", "notes.txt"], "a.pth"),
        (["RN50.pt", "ViT-B-32.pt"], "RN50.pt"),
        # As the hub has OpenAI's models: the image tower alone has the name of whole models.
        (["model.safetensors", "open_clip_model.safetensors"], "open_clip_model.safetensors"),
        (["open_clip_pytorch_model.bin", "RN50.pt"], "open_clip_pytorch_model.bin"),
        (["pytorch_model.bin", "other.bin", "RN50.pt"], "pytorch_model.bin"),
    ],
)
def test_a_folder_has_one_file_of_weights(there: list[str], found: str, tmp_path: Path) -> None:
    for name in there:
        _write(tmp_path / name)
    assert find_weights(tmp_path, "RN50.pt") == tmp_path / found
    assert find_weights(tmp_path / found) == tmp_path / found


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        ([], "", r"is a folder without weights: it needs one of RN50\.pt, open_clip_model\."),
        (["a.txt"], "", r"is a folder without weights: it needs one of RN50\.pt"),
        (["a.pt", "b.bin"], "", r"holds 2 files of weights, say which: a\.pt, b\.bin"),
        ([], "gone.pt", r"gone\.pt does not exist; weights are a file, or a folder that holds one"),
        (["a.pt"], "a.pt/b.pt", r"b\.pt does not exist"),
        (["config.json"], "config.json", r"config\.json holds no weights, .*: give its folder"),
        (["model.safetensors.index.json"], "model.safetensors.index.json", "give its folder"),
        (["card.json", "weights.safetensors"], "", "is a checkpoint bundle, whose card.json says"),
    ],
)
def test_what_holds_no_weights_is_one_line(
    there: list[str], asked: str, said: str, tmp_path: Path
) -> None:
    for name in there:
        _write(tmp_path / name)
    with pytest.raises(ValueError, match=said) as raised:
        content_hash(tmp_path / asked if asked else tmp_path, "RN50.pt")
    assert "\n" not in str(raised.value)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="is no regular file"):
        content_hash(tmp_path / "w.pt")


def test_the_hash_of_a_file_alone_is_its_own_wherever_it_lies(tmp_path: Path) -> None:
    path = _write(tmp_path / "RN50.pt")
    own = hashlib.sha256(b"weights").hexdigest()
    assert content_hash(path) == own
    (tmp_path / "models").mkdir()
    moved = path.rename(tmp_path / "models" / "renamed.pt")
    assert content_hash(moved) == content_hash(moved.parent) == own
    _write(moved, "Weights")
    assert content_hash(moved) != own


def test_a_file_of_the_same_size_and_time_at_the_same_place_is_another(tmp_path: Path) -> None:
    path = _write(tmp_path / "w.pt", "first")
    status, first = path.stat(), content_hash(path)
    _write(tmp_path / "other.pt", "other").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hash(path) != first


def test_what_is_said_beside_weights_and_all_shards_count(tmp_path: Path) -> None:
    path = _write(tmp_path / "model.safetensors")
    seen = {content_hash(path)}
    for content in ("{}", '{"a": 1}'):
        _write(tmp_path / "preprocessor_config.json", content)
        seen.add(content_hash(path))
    path.unlink()
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}}
    _write(tmp_path / "model.safetensors.index.json", json.dumps(index))
    _write(tmp_path / "1.safetensors")
    with pytest.raises(ValueError, match=r"names the shard '2\.safetensors', no file beside it"):
        content_hash(tmp_path)
    for content in ("one", "two"):
        _write(tmp_path / "2.safetensors", content)
        seen.add(content_hash(tmp_path))
    assert len(seen) == 5
    shards = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    assert parts(tmp_path / "model.safetensors.index.json") == shards
