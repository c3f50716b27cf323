from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from invertune.clip.checkpoints import read_checkpoint
from invertune.clip.tensor_files import read_tensors


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
    with pytest.raises(ValueError, match=r"refused: its pickle asks for the global posix\.mkdir"):
        read_checkpoint(path)
    assert not place.exists()


def test_an_archive_with_two_entries_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", "")
        archive.writestr("a/Data.pkl", "")
    with pytest.raises(ValueError, match=r"two\.pt is refused: two entries of the archive"):
        read_checkpoint(path)


def test_tensors_are_read_whatever_lies_around_them(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", {"module.a": torch.ones(2), "module.b": torch.zeros(1)}
    torch.save({"epoch": 3, "state_dict": state}, path)
    found = read_tensors(path)
    assert found.state.keys() == {"a", "b"}
    assert torch.equal(found.state["a"], torch.ones(2))
