"""Hugging Face's folders of CLIP models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invertune.clip.tensor_files import RawCheckpoint, read_json, sub_object

HF_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


HF_TOWERS = ("text_model.", "vision_model.")


_HF_PARTS = {
    "text_model.": "", "vision_model.": "visual.", "encoder.layers.": "transformer.resblocks.",
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding", "embeddings.patch_embedding.": "conv1.",
    "pre_layrnorm.": "ln_pre.", "post_layernorm.": "ln_post.", "final_layer_norm.": "ln_final.",
    "layer_norm1.": "ln_1.", "layer_norm2.": "ln_2.", "self_attn.": "attn.",
    "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj.",
}  # fmt: skip


_HF_PROJECTIONS = {
    "visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection",
}  # fmt: skip


def _tower(config: dict[str, Any], name: str, heads: int) -> dict[str, Any]:
    """Return one tower's config; what transformers leaves out has its default."""
    default: dict[str, Any] = {"hidden_act": "quick_gelu", "num_attention_heads": heads}
    return (
        default | sub_object(config, f"{name}_config") | sub_object(config, f"{name}_config_dict")
    )


def configured(raw: RawCheckpoint, path: Path) -> RawCheckpoint:
    """Add what Hugging Face's ``config.json`` says about the model."""
    config = read_json(path)
    if config.get("model_type", "clip") != "clip":
        raise ValueError(f"{path}: model_type is {config['model_type']!r}; choices: 'clip'")
    vision, text = _tower(config, "vision", heads=12), _tower(config, "text", heads=8)
    activations = sorted({str(vision["hidden_act"]), str(text["hidden_act"])})
    if activations not in (["gelu"], ["quick_gelu"]):
        found = " and ".join(activations)
        raise ValueError(
            f"{path}: hidden_act is {found}; choices: gelu, quick_gelu, in both towers"
        )
    heads = (vision["num_attention_heads"], text["num_attention_heads"])
    if not all(isinstance(number, int) and number > 0 for number in heads):
        raise ValueError(f"{path}: num_attention_heads is a positive number, got {heads}")
    quick_gelu = activations == ["quick_gelu"]
    return replace(raw, files=(path, *raw.files), quick_gelu=quick_gelu, why=None, heads=heads)


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for theirs, value in state.items():
        if theirs in _HF_PROJECTIONS:
            # transformers keeps a linear layer, open_clip the matrix that features are multiplied
            # by.
            result[_HF_PROJECTIONS[theirs]] = value.mT if value.ndim == 2 else value
            continue
        name = theirs
        for part, ours in _HF_PARTS.items():
            name = name.replace(part, ours)
        # open_clip has one matrix for queries, keys and values.
        found = re.fullmatch(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)", name)
        if found:
            joined.setdefault(f"{found[1]}in_proj_{found[3]}", {})[found[2]] = value
        else:
            result[name] = value
    for name, parts in joined.items():
        # Parts that are missing or of other shapes stay away; the comparison with the architecture
        # names them.
        if len(parts) == 3 and len({part.shape for part in parts.values()}) == 1:
            result[name] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return result
