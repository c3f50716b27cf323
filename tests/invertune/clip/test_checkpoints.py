from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from invertune.clip import architectures
from invertune.clip.checkpoints import fit_errors, load_clip, read_checkpoint
from invertune.clip.models import CLIP, ModelSpec
from invertune.clip.weights import load_weights

State = dict[str, Tensor]
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
VISION = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
    "vit": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "split": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 16},
}
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def _model(kind: str, quick_gelu: bool = True) -> CLIP:
    """Return a CLIP whose heads are 64 wide but for ``split``, and whose weights fit into fp16."""
    text = {**TEXT, "heads": 2} if kind == "split" else TEXT
    architecture = {
        "embed_dim": 32, "quick_gelu": quick_gelu, "vision_cfg": VISION[kind], "text_cfg": text,
    }  # fmt: skip
    model = ModelSpec(kind, architecture=architecture).build(0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.clip.state_dict().items():
            if value.is_floating_point():  # statistics too, and scales that start at zero
                noise = 0.1 * torch.rand(value.shape, generator=generator)
                value.copy_((value + noise).half())
            else:
                assert name.endswith("num_batches_tracked")
    return model


def _state(model: CLIP, dtype: torch.dtype = torch.float32) -> State:
    state = {name: value.clone().contiguous() for name, value in model.clip.state_dict().items()}
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


@torch.no_grad()
def _features(model: CLIP) -> Tensor:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return torch.cat([model.encode_image(images), model.encode_text(["a key", "two cats"])])


def _same(found: CLIP, original: CLIP) -> bool:
    assert not found.training
    return torch.allclose(_features(found), _features(original), atol=1e-6)


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
def test_every_format_gives_the_model_back(kind: str, writer: str, tmp_path: Path) -> None:
    original, path = _model(kind, quick_gelu=writer in QUICK), tmp_path / "any.suffix"
    WRITERS[writer](_state(original, torch.float16), path)
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
    assert _same(loaded, original)


def test_a_training_checkpoint_tells_its_epoch_and_what_is_left_out(tmp_path: Path) -> None:
    path, state = tmp_path / "epoch_3.pt", _prefixed(_state(_model("vit")))
    _wrapped(state, path)
    assert read_checkpoint(path).notes[:3] == ("epoch 3", "name 'run'", "left out: optimizer")
    _wrapped(state, path, scaler={})  # older versions of open_clip kept the prefix
    found = read_checkpoint(path)
    assert found.kind == "open_clip training checkpoint"
    assert found.notes[2] == "left out: optimizer, scaler"


def test_the_caller_decides_the_activation(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    for quick_gelu in (True, False):
        original = _model("vit", quick_gelu)
        torch.save(_state(original), path)
        found = read_checkpoint(path, quick_gelu=quick_gelu)
        assert found.activation_known
        assert not any(note.startswith("activation") for note in found.notes)
        assert _same(load_clip(path, quick_gelu=quick_gelu), original)
    assert not _same(load_clip(path, quick_gelu=True), original)


def test_extra_keys_and_buffers_are_dropped_and_counters_added(tmp_path: Path) -> None:
    path, original = tmp_path / "w.pt", _model("resnet")
    state = {k: v for k, v in _state(original).items() if not k.endswith("num_batches_tracked")}
    extras = {
        name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")
    }
    state["logit_scale"] = state["logit_scale"].view(1)
    torch.save({**state, **extras, "attn_mask": torch.zeros(16, 16)}, path)
    found = read_checkpoint(path)
    assert found.state.keys() == original.clip.state_dict().keys()
    assert found.architecture["quick_gelu"]  # only OpenAI's own state has these keys
    assert _same(load_clip(path), original)


@pytest.mark.parametrize(
    "name", ["RN50", "RN101", "RN50x4", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14"]
)
def test_models_of_open_clip_are_known_by_their_shapes(name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        state = open_clip.CLIP(**config).state_dict()
    assert architectures.infer_architecture(Path("w"), state, None) == (config, name, ())


def _hugging_face(state: State) -> State:
    """Return a ViT's state by the names that transformers gives."""
    result = {"logit_scale": state["logit_scale"]}
    for theirs, ours in (("text_model", ""), ("vision_model", "visual.")):
        image = theirs == "vision_model"
        projection = state["visual.proj" if image else "text_projection"]
        place = "visual_projection" if image else "text_projection"
        result[f"{place}.weight"] = projection.T.contiguous()
        positions = state[f"{ours}positional_embedding"]
        result[f"{theirs}.embeddings.position_embedding.weight"] = positions
        result[f"{theirs}.embeddings.position_ids"] = torch.arange(len(positions))[None]
        for i in range(2):
            block = f"{ours}transformer.resblocks.{i}."
            for name, value in state.items():
                if name.startswith(block):
                    layer = f"{theirs}.encoder.layers.{i}."
                    result |= _hf_block(layer, name.removeprefix(block), value)
    norms = {
        "text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
    }  # fmt: skip
    pairs = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        **{f"{theirs}.weight": f"{ours}.weight" for theirs, ours in norms.items()},
        **{f"{theirs}.bias": f"{ours}.bias" for theirs, ours in norms.items()},
    }
    return {**result, **{theirs: state[ours] for theirs, ours in pairs.items()}}


def _hf_block(layer: str, name: str, value: Tensor) -> State:
    names = {
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj",
    }  # fmt: skip
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        chunks = zip("qkv", value.chunk(3), strict=True)
        return {f"{layer}self_attn.{p}_proj.{kind}": chunk.contiguous() for p, chunk in chunks}
    place, _, kind = name.rpartition(".")
    return {f"{layer}{names[place]}.{kind}": value}


def _config(folder: Path, activation: str = "quick_gelu", **more: Any) -> None:
    text = {"hidden_act": activation, "num_attention_heads": 2}
    vision = {"hidden_act": activation, "num_attention_heads": 4}
    config = {"model_type": "clip", "text_config": text, "vision_config": vision, **more}
    (folder / "config.json").write_text(json.dumps(config))


def _shards(state: State, folder: Path) -> None:
    names = sorted(state)
    weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        part = {name: state[name] for name in names if weight_map[name] == file}
        safetensors.torch.save_file(part, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


FOLDERS: dict[str, Callable[[State, Path], None]] = {
    "safetensors": lambda s, p: safetensors.torch.save_file(s, p / "model.safetensors"),
    "bin": lambda s, p: torch.save(s, p / "pytorch_model.bin"),
    "shards": _shards,
}


@pytest.mark.parametrize("form", FOLDERS)
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_a_hugging_face_folder_gives_the_model_back(
    form: str, activation: str, tmp_path: Path
) -> None:
    original = _model("split", quick_gelu=activation == "quick_gelu")
    FOLDERS[form](_hugging_face(_state(original)), tmp_path)
    _config(tmp_path, activation)
    found = read_checkpoint(tmp_path)
    assert (found.kind, found.activation_known) == ("Hugging Face CLIP folder", True)
    assert found.notes == ()  # the config tells the heads and the activation
    assert set(found.files) == set(tmp_path.iterdir())
    assert _same(load_clip(tmp_path), original)


def test_hugging_face_weights_take_the_config_beside_them(tmp_path: Path) -> None:
    original, path = _model("split"), tmp_path / "model.safetensors"
    safetensors.torch.save_file(_hugging_face(_state(original)), path)
    alone = read_checkpoint(path)
    assert (alone.kind, alone.activation_known) == ("Hugging Face CLIP weights", False)
    assert alone.architecture["vision_cfg"]["head_width"] == 64
    _config(tmp_path)
    assert read_checkpoint(path).files == (tmp_path / "config.json", path)
    assert _same(load_clip(path), original)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"model_type": "siglip"}, "model_type is 'siglip'; choices: 'clip'"),
        ({"text_config": {"hidden_act": "relu"}}, "hidden_act is quick_gelu and relu; choices"),
        ({"text_config": {"num_attention_heads": 0}}, r"is a positive number, got \(4, 0\)"),
        ({"text_config": {"num_attention_heads": 5}}, "text tower, 64 wide, does not split into 5"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_said(
    config: dict[str, Any], line: str, tmp_path: Path
) -> None:
    FOLDERS["safetensors"](_hugging_face(_state(_model("split"))), tmp_path)
    _config(tmp_path, **config)
    with pytest.raises(ValueError, match=line):
        read_checkpoint(tmp_path)


def test_a_config_of_bottomless_brackets_is_no_json(tmp_path: Path) -> None:
    FOLDERS["safetensors"](_hugging_face(_state(_model("split"))), tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json is no JSON: "):
        read_checkpoint(tmp_path)


def test_a_folder_without_weights_or_with_shards_from_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it needs config\.json and one of model\.safetensors,"):
        read_checkpoint(tmp_path)
    _config(tmp_path)
    for shard in ("../secret.safetensors", "gone.safetensors"):
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"logit_scale": shard}}))
        with pytest.raises(ValueError, match=f"names the shard '{shard}', no file beside it"):
            read_checkpoint(tmp_path)


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


def test_what_is_no_clip_names_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"no CLIP .* 2 tensors, but no visual\.conv1\.weight, token"
    ):
        read_checkpoint(path)
    state = _state(_model("resnet"))
    del state["visual.attnpool.positional_embedding"], state["text_projection"]
    torch.save(state, path)
    with pytest.raises(
        ValueError, match=r"but no text_projection, visual\.attnpool\.positional_em"
    ):
        read_checkpoint(path)


def test_towers_that_do_not_split_into_heads_or_squares_are_said(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", _state(_model("vit"))
    torch.save({**state, "ln_final.weight": torch.ones(48)}, path)
    with pytest.raises(
        ValueError, match="the text tower, 48 wide, does not split into heads of 64"
    ):
        read_checkpoint(path)
    torch.save({**state, "visual.positional_embedding": torch.ones(4, 64)}, path)
    with pytest.raises(ValueError, match="has 4 rows; a square image has"):
        read_checkpoint(path)
    torch.save({**state, "token_embedding.weight": torch.ones(9, 64)}, path)
    with pytest.raises(ValueError, match="has 9 tokens; only CLIP's own tokenizer, of 49408"):
        read_checkpoint(path)
    torch.save({**state, "visual.conv1.weight": torch.ones(64, 3, 0, 0)}, path)
    with pytest.raises(ValueError, match=r"visual\.conv1\.weight is empty, of shape \[64, 3, 0, 0"):
        read_checkpoint(path)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", _state(_model("vit"))
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
    change: Callable[[Tensor], Tensor], said: str, tmp_path: Path
) -> None:
    path, state = tmp_path / "w.pt", _state(_model("vit"))
    state["visual.proj"] = change(state["visual.proj"])
    torch.save(state, path)
    with pytest.raises(ValueError, match=said) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: visual.proj")
    assert "\n" not in str(caught.value)


def test_values_that_are_no_numbers_are_noted(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", _state(_model("vit"))
    torch.save(state, path)
    assert not any("NaN" in note for note in read_checkpoint(path).notes)
    state["visual.proj"][0, 0] = torch.nan
    torch.save(state, path)
    assert "1 tensors hold NaN or infinite values: visual.proj" in read_checkpoint(path).notes


def test_the_first_five_differences_are_listed() -> None:
    expected = {"a": torch.zeros(2, 3), **{f"m{i}": torch.zeros(1) for i in range(6)}}
    assert fit_errors(expected, expected) == []
    found = fit_errors({"a": torch.zeros(3), "b": torch.zeros(1)}, expected)
    assert found[0] == "a is [3], the model has [2, 3]"
    assert found[1:] == [f"m{i} is missing" for i in range(4)]
    assert fit_errors({**expected, "b": torch.zeros(1)}, expected) == ["b is not in the model"]


def test_weights_of_another_size_name_their_tensors_too(tmp_path: Path) -> None:
    path, model = tmp_path / "w.safetensors", _model("vit")
    safetensors.torch.save_file({**_state(model), "visual.proj": torch.zeros(64, 8)}, path)
    with pytest.raises(
        ValueError, match=r"does not fit vit: .*visual\.proj is \[64, 8\], the model"
    ):
        load_weights(model, path)
