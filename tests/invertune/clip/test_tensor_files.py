from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from invertune.clip.checkpoints import read_checkpoint
from invertune.clip.tensor_files import is_torchscript, read_json, read_tensors, sub_object


class _Payload:
    """Unpickled freely, it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def _save_old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, _save_old, _pickle])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    save: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    path, place = tmp_path / "evil.pt", tmp_path / "ran"
    save({"epoch": 1, "more": _Payload(place), "state_dict": {}}, path)
    rule = (
        r"evil\.pt is refused: its pickle asks for the global (posix|nt)\.mkdir, .* is not executed"
    )
    with pytest.raises(ValueError, match=rule) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not place.exists()
    pickle.loads(pickle.dumps(_Payload(place)))
    assert place.exists()  # it would have run


def test_a_pickle_of_a_newer_protocol_is_refused_too(tmp_path: Path) -> None:
    path, place = tmp_path / "evil.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Payload(place), protocol=4))
    with pytest.raises(ValueError, match=r"refused: its pickle holds more than tensors \(.*\)"):
        read_checkpoint(path)
    assert not place.exists()


class _Restored(nn.Module):
    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return torch.zeros(1), self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.training = state[1]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_that_runs_code_when_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.jit.save(torch.jit.script(_Restored()), path)
    with pytest.raises(
        ValueError, match=r"evil\.pt is refused: its TorchScript has a __setstate__"
    ):
        read_checkpoint(path)
    # torch's own reader finds entries whatever their case.
    other = tmp_path / "upper.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename.replace("/code/", "/CODE/"), source.read(entry))
    with pytest.raises(
        ValueError, match=r"upper\.pt is refused: its TorchScript has a __setstate__"
    ):
        read_checkpoint(other)


def test_an_archive_with_two_entries_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/one.py", "")
        archive.writestr("a/Code/one.py", "")
    with pytest.raises(ValueError, match=r"two\.pt is refused: two entries of the archive"):
        read_checkpoint(path)


def test_tensors_are_read_whatever_lies_around_them(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", {"module.a": torch.ones(2), "module.b": torch.zeros(1)}
    torch.save({"epoch": 3, "state_dict": state}, path)
    found = read_tensors(path)
    assert found.state.keys() == {"a", "b"}
    assert torch.equal(found.state["a"], torch.ones(2))
    assert not is_torchscript(path)


@pytest.mark.parametrize(("text", "said"), [("{", "is no JSON: "), ("[1]", "holds no object")])
def test_a_json_file_holds_an_object(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": {"b": 1}, "c": 2}')
    assert sub_object(read_json(path), "a") == {"b": 1}
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_json(path)
