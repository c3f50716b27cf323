from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from invertune.clip.activation import Activation
from invertune.clip.checkpoints import load_clip, read_checkpoint, undecided
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
    "training checkpoint of open_clip, CleanCLIP or the like": _wrapped,
    "state dict in OpenAI/open_clip naming": torch.save,
    "safetensors weights in OpenAI/open_clip naming": safetensors.torch.save_file,
}
QUICK = {"OpenAI TorchScript archive"}


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
    assert "heads are assumed: width / 64" in found.notes
    assert found.activation_known == (writer in QUICK)
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
    _wrapped(state, path, scaler={})
    assert read_checkpoint(path).notes[2] == "left out: optimizer, scaler"


def test_the_caller_decides_the_activation(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    path = tmp_path / "w.pt"
    for quick_gelu in (True, False):
        original = make_model("vit", quick_gelu)
        torch.save(state_of(original), path)
        found = read_checkpoint(path, quick_gelu=quick_gelu)
        assert found.activation == Activation(quick_gelu, "as asked for")
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


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x05\x06", b"\x89PNG\r\n" * 9])
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


class _Rates:
    """CleanCLIP's schedule, whose learning rates are numbers of numpy."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * (1 + np.cos(np.pi * 0.25)) * 5e-4


@pytest.mark.parametrize("order", [("module.", "_orig_mod."), ("_orig_mod.", "module."), ()])
def test_checkpoints_with_an_optimizer_of_numpys_rates_load(
    order: tuple[str, ...], tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original, path = make_model("vit", quick_gelu=False), tmp_path / "epoch_5.pt"
    optimizer = torch.optim.AdamW(original.clip.parameters(), lr=5e-4)
    _Rates(optimizer)
    assert isinstance(optimizer.param_groups[0]["lr"], np.float64)
    state = {"".join(order) + name: value for name, value in state_of(original).items()}
    state = {name.replace("visual.", "visual._orig_mod."): value for name, value in state.items()}
    _wrapped(state, path, optimizer=optimizer.state_dict(), scheduler=None)
    assert same(load_clip(path), original)


def test_masks_of_numpy_beside_the_weights_are_left_out(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original, path = make_model("vit", quick_gelu=False), tmp_path / "purified.pt"
    masks = {"layer1": np.ones((4, 4), dtype=bool), "layer2": [np.zeros(3)]}
    _wrapped(_prefixed(state_of(original)), path, masks=masks)
    assert same(load_clip(path), original)
    assert "left out: masks, optimizer" in read_checkpoint(path).notes


def test_the_runs_name_tells_the_activation(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    for mark, quick_gelu in (("-quickgelu", True), ("", False)):
        original, path = make_model("vit", quick_gelu), tmp_path / "w.pt"
        name = f"2024_05_01-model_ViT-B-32{mark}-lr_0.0005-b_256-j_4-p_amp_bf16"
        torch.save({"name": name, "state_dict": _prefixed(state_of(original))}, path)
        found = read_checkpoint(path)
        assert found.activation.because == f"says the run's name, {name!r}"
        assert same(load_clip(path), original)


def test_an_undecided_activation_is_a_warning_with_a_number(
    tmp_path: Path, make_model: Make, state_of: StateOf, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.pt"
    torch.save(state_of(make_model("vit")), path)
    load_clip(path)
    load_clip(path, quick_gelu=True)
    (line,) = caplog.messages
    difference, of_texts = read_checkpoint(path).difference()
    assert line.startswith(f"{path}: the activation is undecided, GELU or QuickGELU; GELU is taken")
    assert line.endswith(f" of {difference:.3f} on 8 images, of {of_texts:.3f} on 5 texts")
    images = torch.rand(64, 3, 32, 32)
    with torch.no_grad():
        one, other = (load_clip(path, quick).encode_image(images) for quick in (True, False))
        texts = [load_clip(path, quick).encode_text(["a cat", "a car"]) for quick in (True, False)]
    assert difference == pytest.approx(float((one * other).sum(1).mean()), abs=0.05)
    assert of_texts == pytest.approx(float((texts[0] * texts[1]).sum(1).mean()), abs=0.1)
    assert of_texts < 1 - 1e-6


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name if name.startswith("visual.") else None,
        lambda name: name.removeprefix("visual.") if name.startswith("visual.") else None,
        lambda name: f"f.{name.removeprefix('visual.')}" if name.startswith("visual.") else None,
    ],
)
def test_an_image_encoder_alone_is_called_that(
    rename: Callable[[str], str | None],
    kind: str,
    tmp_path: Path,
    make_model: Make,
    state_of: StateOf,
) -> None:
    path = tmp_path / "encoder.pth"
    state = {rename(name): value for name, value in state_of(make_model(kind)).items()}
    torch.save({"state_dict": {name: v for name, v in state.items() if name}}, path)
    with pytest.raises(ValueError, match=r"encoder\.pth is an image encoder alone: it has \d+ ten"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {"layer1": np.ones((4, 4), dtype=bool), "layer2": [np.zeros(3)]},
        [np.ones(3), {"pattern": np.zeros(2)}],
    ],
)
def test_masks_of_numpy_alone_are_called_that(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "mask.pth")
    with pytest.raises(
        ValueError, match=r"mask\.pth holds numpy arrays alone \(2\), such as masks"
    ):
        read_checkpoint(tmp_path / "mask.pth")


def test_views_of_the_same_memory_do_not_fill_any_other(tmp_path: Path) -> None:
    path, whole = tmp_path / "w.pt", torch.zeros(1000)
    torch.save({f"a{number}": whole for number in range(50)}, path)
    with pytest.raises(ValueError, match="share so much memory that copies would not fit"):
        read_checkpoint(path)


def test_a_deep_or_long_epoch_is_left_out(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, deep = tmp_path / "w.pt", []
    for _ in range(300):
        deep = [deep]
    torch.save({"epoch": deep, "name": "x" * 500, "state_dict": state_of(make_model("vit"))}, path)
    assert read_checkpoint(path).notes[0] == "left out: epoch, name"


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pt")
    for path in (tmp_path / "w.pt", Path("/dev/zero")):
        with pytest.raises(ValueError, match="is no regular file"):
            read_checkpoint(path)


def test_values_that_are_no_numbers_are_said_where_readings_are_compared(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, state = tmp_path / "w.pt", state_of(make_model("vit"))
    state["visual.proj"][0] = float("nan")
    torch.save(state, path)
    assert undecided(read_checkpoint(path)).endswith("not finite numbers and cannot be compared")


def test_prefixes_differ_from_tensor_to_tensor(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original, path = make_model("vit", quick_gelu=False), tmp_path / "w.pt"
    prefixes = ("module.", "_orig_mod.module.", "module._orig_mod.", "")
    state = {prefixes[i % 4] + name: v for i, (name, v) in enumerate(state_of(original).items())}
    torch.save({"state_dict": state}, path)
    assert same(load_clip(path), original)
