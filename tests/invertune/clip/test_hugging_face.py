from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from invertune.clip.checkpoints import load_clip, read_checkpoint
from invertune.clip.models import CLIP

State = dict[str, Tensor]
Make = Callable[..., CLIP]
StateOf = Callable[..., State]
Same = Callable[[CLIP, CLIP], bool]


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
    form: str, activation: str, tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original = make_model("split", quick_gelu=activation == "quick_gelu")
    FOLDERS[form](_hugging_face(state_of(original)), tmp_path)
    _config(tmp_path, activation)
    found = read_checkpoint(tmp_path)
    assert (found.kind, found.activation_known) == ("Hugging Face CLIP folder", True)
    assert found.notes == ()  # the config tells the heads and the activation
    assert set(found.files) == set(tmp_path.iterdir())
    assert same(load_clip(tmp_path), original)


def test_hugging_face_weights_take_the_config_beside_them(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original, path = make_model("split"), tmp_path / "model.safetensors"
    safetensors.torch.save_file(_hugging_face(state_of(original)), path)
    alone = read_checkpoint(path)
    assert (alone.kind, alone.activation_known) == ("Hugging Face CLIP weights", False)
    assert alone.architecture["vision_cfg"]["head_width"] == 64
    _config(tmp_path)
    assert read_checkpoint(path).files == (path, tmp_path / "config.json")
    assert same(load_clip(path), original)


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
    config: dict[str, Any], line: str, tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    FOLDERS["safetensors"](_hugging_face(state_of(make_model("split"))), tmp_path)
    _config(tmp_path, **config)
    with pytest.raises(ValueError, match=line):
        read_checkpoint(tmp_path)


def test_a_config_of_bottomless_brackets_is_no_json(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    FOLDERS["safetensors"](_hugging_face(state_of(make_model("split"))), tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json is no JSON: "):
        read_checkpoint(tmp_path)


def test_a_folder_without_weights_or_with_shards_from_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without weights: it needs one of open_clip_model\."):
        read_checkpoint(tmp_path)
    _config(tmp_path)
    for shard in ("../secret.safetensors", "gone.safetensors"):
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"logit_scale": shard}}))
        with pytest.raises(ValueError, match=f"names the shard '{shard}', no file beside it"):
            read_checkpoint(tmp_path)
