from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from invertune.clip.checkpoints import read_checkpoint
from invertune.clip.pickle_values import Odd, Script, Storage, View
from invertune.clip.tensor_files import read_tensors
from invertune.clip.torch_files import flat, read_torch

Save = Callable[[Any, Path], None]


def _new(content: Any, path: Path) -> None:
    torch.save(content, path)


def _old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _newest(content: Any, path: Path) -> None:
    torch.save(content, path, pickle_protocol=4)


SAVERS = [_new, _old, _newest]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool]  # fmt: skip


@pytest.mark.parametrize("save", SAVERS)
def test_tensors_are_those_that_were_saved(save: Save, tmp_path: Path) -> None:
    path, whole = tmp_path / "w.pt", torch.randn(6, 8)
    state: dict[str, Tensor] = {str(d): (10 * whole).to(d) for d in DTYPES}
    state |= {
        "view": whole[1:4, 2:5], "turned": whole.t(), "same": whole, "one": torch.tensor(3.0),
        "expanded": torch.ones(1).expand(2, 2), "empty": torch.zeros(0, 3),
        "last": whole.to(memory_format=torch.contiguous_format).view(2, 3, 2, 4).to(
            memory_format=torch.channels_last
        ),
    }  # fmt: skip
    save({"state": state, "parameter": nn.Parameter(whole), "lr": np.float64(0.5)}, path)
    found = read_torch(path)
    for name, value in state.items():
        assert torch.equal(found["state"][name].tensor(), value), name
        assert found["state"][name].tensor().stride() == value.stride()
    assert torch.equal(found["parameter"].tensor(), whole)
    assert found["lr"] == 0.5


@pytest.mark.parametrize("save", SAVERS)
def test_every_float_that_torch_saves_is_known(save: Save, tmp_path: Path) -> None:
    value = torch.randn(4).to(torch.float8_e4m3fn)
    save({"a": value}, tmp_path / "w.pt")
    found = read_torch(tmp_path / "w.pt")["a"].tensor()
    assert torch.equal(found.float(), value.float())


@pytest.mark.parametrize("save", [_new, _old])
def test_what_is_no_dense_tensor_is_read_as_such(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    save({"sparse": torch.eye(2).to_sparse(), "meta": torch.zeros(2, device="meta")}, path)
    found = read_torch(path)
    assert found == {"sparse": Odd("sparse tensor"), "meta": Odd("tensor without data")}


@pytest.mark.parametrize("save", SAVERS)
def test_a_file_cut_off_anywhere_is_one_error(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    save({"a": torch.randn(20), "b": torch.randn(3)}, path)
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"w\.pt (is|holds)"):
            read_torch(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path, small = tmp_path / "w.pt", torch.zeros(4)
    large = small.as_strided((4,), (1,))
    torch.save({"a": large}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    # A length of 4 in the shape becomes one of 200; that of the storage stays.
    pickled = entries["w/data.pkl"]
    at = pickled.rindex(b"K\x04")
    entries["w/data.pkl"] = pickled[: at + 1] + b"\xc8" + pickled[at + 2 :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"a: a tensor of shape \[200\] reaches beyond"):
        read_tensors(path)


class _Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).view(2, 3).half())
        self.register_buffer("steps", torch.tensor(7))
        self.number, self.sizes = 3, [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.float()


class _Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(_Inner(), nn.BatchNorm1d(3))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layers(x)  # type: ignore[no-any-return]


def _script(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), path)


def test_a_torchscript_archive_gives_the_state_of_its_module(tmp_path: Path) -> None:
    path, module = tmp_path / "m.pt", _Outer()
    _script(module, path)
    found, expected = read_tensors(path), module.state_dict()
    assert found.openai
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[name], value) for name, value in expected.items())


class _Hooks(nn.Module):
    """Its method is called where it stands for one of nn.Module's own dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    @torch.jit.export
    def values(self) -> Tensor:
        assert False, "it ran"  # noqa: B011, PT015  (TorchScript knows no other way)
        return self.weight


class _Restored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        assert False, "it ran"  # noqa: B011, PT015  (TorchScript knows no other way)
        self.training = state[1]


def _runs(path: Path) -> bool:
    """Return whether torch's own reader would run the method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.jit.load(str(path)).state_dict()
        except Exception as error:
            return "it ran" in str(error)
    return False


def _rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def test_a_module_that_stands_for_torchs_own_dictionary_does_not_run(tmp_path: Path) -> None:
    path, outer = tmp_path / "evil.pt", nn.Module()
    outer.add_module("Xstate_dict_hooks", _Hooks())
    _script(outer, path)
    _rewritten(path, lambda _, content: content.replace(b"Xstate_dict_hooks", b"_state_dict_hooks"))
    assert _runs(path)
    assert read_tensors(path).state.keys() == {"_state_dict_hooks.weight"}


def test_a_method_that_torch_calls_on_reading_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    _script(_Restored(), path)
    assert _runs(path)
    # What the method would restore is no dict of tensors.
    with pytest.raises(ValueError, match=r"evil\.pt is refused: its pickle sets what an object"):
        read_tensors(path)


def test_an_archive_within_an_archive_does_not_run(tmp_path: Path) -> None:
    """Whichever of two archives a reader finds, a file that holds both is refused."""
    path, good = tmp_path / "evil.pt", tmp_path / "good.pt"
    _script(_Restored(), path)
    torch.save({"a": torch.ones(2)}, good)
    evil, harmless = path.read_bytes(), good.read_bytes()
    for content in (evil + harmless, harmless + evil, b"\x18\0\0\0PTMF" + bytes(24) + evil):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"evil\.pt is (refused|a damaged|no checkpoint)"):
            read_tensors(path)


def test_a_flatbuffer_of_torchs_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "mobile.ptl"
    for content in (b"\x18\0\0\0PTMF" + bytes(99), b"\x18\0\0\0PTMF", bytes(99)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mobile\.ptl is no checkpoint; choices:"):
            read_tensors(path)


def test_broken_code_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    _script(_Outer(), path)
    _rewritten(path, lambda name, content: b"no code(" if "/code/" in name else content)
    assert read_tensors(path).state.keys() == _Outer().state_dict().keys()


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    script = Script({"a": View(Storage(torch.float32, 1), torch.float32, (1,), (1,), 0)})
    for _ in range(9):
        script = Script({"n" * 200: script})
    with pytest.raises(ValueError, match="a name has over 1000 characters"):
        flat(tmp_path / "m.pt", script)


@pytest.mark.parametrize("size", [2**31, 2**40, 2**61])
def test_a_shape_beyond_any_memory_is_one_line(size: int, tmp_path: Path) -> None:
    path, pickled = tmp_path / "w.pt", io.BytesIO()
    torch.save({"a": torch.zeros(1)}, path)
    number = size.to_bytes(9, "little")
    shape = b"\x8a\x09" + number + b"\x8a\x09" + number + b"\x86K\x00K\x00\x86"
    pickled.write(
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00"
    )
    pickled.write(
        b"storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"
    )
    pickled.write(shape + b"\x89ccollections\nOrderedDict\n)RtRs.")
    _rewritten(path, lambda name, old: pickled.getvalue() if name.endswith("data.pkl") else old)
    with pytest.raises(ValueError, match=r"w\.pt: a") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_modules_that_hold_each_other_are_refused(tmp_path: Path) -> None:
    one, other = Script(), Script()
    one.attributes["other"], other.attributes["one"] = other, one
    with pytest.raises(ValueError, match="its modules hold each other"):
        flat(tmp_path / "m.pt", one)
    twice = Script()
    for _ in range(40):
        twice = Script({"a": twice, "b": twice})
    with pytest.raises(ValueError, match="its modules hold each other"):
        flat(tmp_path / "m.pt", twice)


def test_a_view_of_no_memory_is_empty() -> None:
    buffer = io.BytesIO()
    pickle.dump([], buffer)

    assert View(Storage(torch.float32, 0), torch.float32, (0, 4), (4, 1), 0).tensor().shape == (
        0,
        4,
    )


def test_a_payload_in_torchs_own_formats_does_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for save in (_new, _old):
        save({"a": torch.ones(1), "b": Payload()}, tmp_path / "evil.pt")
        with pytest.raises(ValueError, match=r"asks for the global posix\.mkdir"):
            read_torch(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
