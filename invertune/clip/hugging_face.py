"""Hugging Face's folders of CLIP models."""

from __future__ import annotations

import re

import torch
from torch import Tensor

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


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face CLIP by open_clip's names."""
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
