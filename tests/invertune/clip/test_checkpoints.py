from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from invertune.clip.checkpoints import load_clip, read_checkpoint
from invertune.clip.models import CLIP

State = dict[str, Tensor]
Make = Callable[..., CLIP]
StateOf = Callable[..., State]
Same = Callable[[CLIP, CLIP], bool]
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def _prefixed(state: State) -> State:
    return {f"module.{name}": value for name, value in state.items()}


def _nested(state: State) -> nn.Module:
    """Return modules inside modules that have such a state, as a script needs them."""
    root = nn.Module()
    for name, value in state.items():
        *places, last = name.split(".")
        module = root
        for place in places:
            if place not in dict(module.named_children()):
                module.add_module(place, nn.Module())
            module = module.get_submodule(place)
        module.register_buffer(last, value)
    return root


def _torchscript(state: State, path: Path) -> None:
    extras = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}
    numbers = {name: torch.tensor(value) for name, value in extras.items()}
    torch.jit.save(torch.jit.script(_nested({**state, **numbers})), path)


def _wrapped(state: State, path: Path, **more: Any) -> None:
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {}, **more}, path)


WRITERS: dict[str, Callable[[State, Path], None]] = {
    "OpenAI TorchScript archive": _torchscript,
    "open_clip training checkpoint": _wrapped,
    "CleanCLIP-family checkpoint (module. prefixes)": lambda s, p: _wrapped(_prefixed(s), p),
    "state dict in OpenAI/open_clip naming": torch.save,
    "safetensors weights in OpenAI/open_clip naming": safetensors.torch.save_file,
}
QUICK = {"OpenAI TorchScript archive", "CleanCLIP-family checkpoint (module. prefixes)"}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@both
@pytest.mark.parametrize("writer", WRITERS)
def test_every_format_gives_the_model_back(
    kind: str, writer: str, tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original, path = make_model(kind, quick_gelu=writer in QUICK), tmp_path / "any.suffix"
    WRITERS[writer](state_of(original, torch.float16), path)
    found = read_checkpoint(path)
    assert (found.kind, found.files, found.open_clip_name) == (writer, (path,), None)
    assert found.parameter_count == original.parameter_count
    assert {v.dtype for v in found.state.values()} <= {torch.float32, torch.int64}
    assert any(note.startswith("activation ") for note in found.notes)
    assert "heads are assumed: width / 64" in found.notes
    assert not found.activation_known
    loaded = load_clip(path)
    assert (loaded.name, loaded.image_size) == ("any", 32)
    assert loaded.tokenize(["a"]).shape == (1, 16)
    assert same(loaded, original)


def test_a_training_checkpoint_tells_its_epoch_and_what_is_left_out(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, state = tmp_path / "epoch_3.pt", _prefixed(state_of(make_model("vit")))
    _wrapped(state, path)
    assert read_checkpoint(path).notes[:3] == ("epoch 3", "name 'run'", "left out: optimizer")
    _wrapped(state, path, scaler={})  # older versions of open_clip kept the prefix
    found = read_checkpoint(path)
    assert found.kind == "open_clip training checkpoint"
    assert found.notes[2] == "left out: optimizer, scaler"


def test_the_caller_decides_the_activation(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    path = tmp_path / "w.pt"
    for quick_gelu in (True, False):
        original = make_model("vit", quick_gelu)
        torch.save(state_of(original), path)
        found = read_checkpoint(path, quick_gelu=quick_gelu)
        assert found.activation_known
        assert not any(note.startswith("activation") for note in found.notes)
        assert same(load_clip(path, quick_gelu=quick_gelu), original)
    assert not same(load_clip(path, quick_gelu=True), original)


def test_extra_keys_and_buffers_are_dropped_and_counters_added(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    path, original = tmp_path / "w.pt", make_model("resnet")
    state = {k: v for k, v in state_of(original).items() if not k.endswith("num_batches_tracked")}
    extras = {
        name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")
    }
    state["logit_scale"] = state["logit_scale"].view(1)
    torch.save({**state, **extras, "attn_mask": torch.zeros(16, 16)}, path)
    found = read_checkpoint(path)
    assert found.state.keys() == original.clip.state_dict().keys()
    assert found.architecture["quick_gelu"]  # only OpenAI's own state has these keys
    assert same(load_clip(path), original)


@pytest.mark.parametrize(
    "content", [b"", b"hello world", b"PK\x03\x04 cut off", b"\x89PNG\r\n" * 9]
)
def test_what_is_no_checkpoint_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors is no checkpoint; choices: an OpenAI"):
        read_checkpoint(path)


def test_a_missing_or_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(ValueError, match=r"w\.pt does not exist; a checkpoint is an OpenAI"):
        read_checkpoint(path)
    safetensors.torch.save_file({"a": torch.zeros(9)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"w\.pt is a damaged safetensors file"):
        read_checkpoint(path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(ValueError, match=r"w\.pt holds a list, not a dict of tensors"):
        read_checkpoint(path)


def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, state = tmp_path / "w.pt", state_of(make_model("vit"))
    state["visual.proj"] = state["visual.proj"][:, :8]
    state["extra"] = state.pop("ln_final.bias")
    torch.save(state, path)
    rule = (
        r"w\.pt does not fit a CLIP of its size: visual\.proj is \[64, 8\], the model has "
        r"\[64, 32\]; ln_final\.bias is missing; extra is not in the model"
    )
    with pytest.raises(ValueError, match=rule):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weight: weight.to_sparse(), "is no dense tensor of real numbers"),
        (lambda weight: weight.to(torch.complex64), "is no dense tensor of real numbers"),
        (lambda weight: weight.to("meta"), "is no dense tensor of real numbers"),
        (
            lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
            "is no dense tensor of real numbers",
        ),
        (lambda weight: weight[:0], r"is empty, of shape \[0, 32\]"),
        (
            lambda weight: torch.zeros(1).expand(10**6, 10**6),
            r"of shape \[1000000, 1000000\], is larger than the 4 bytes that the file holds of it",
        ),
    ],
    ids=["sparse", "complex", "meta", "quantized", "empty", "expanded"],
)
def test_what_are_no_weights_is_refused_before_it_is_copied(
    change: Callable[[Tensor], Tensor],
    said: str,
    tmp_path: Path,
    make_model: Make,
    state_of: StateOf,
) -> None:
    path, state = tmp_path / "w.pt", state_of(make_model("vit"))
    state["visual.proj"] = change(state["visual.proj"])
    torch.save(state, path)
    with pytest.raises(ValueError, match=said) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: visual.proj")
    assert "\n" not in str(caught.value)


def test_values_that_are_no_numbers_are_noted(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, state = tmp_path / "w.pt", state_of(make_model("vit"))
    torch.save(state, path)
    assert not any("NaN" in note for note in read_checkpoint(path).notes)
    state["visual.proj"][0, 0] = torch.nan
    torch.save(state, path)
    assert "1 tensors hold NaN or infinite values: visual.proj" in read_checkpoint(path).notes
