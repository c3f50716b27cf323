"""Weights of a CLIP model in files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from open_clip.transformer import QuickGELU
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.clip.pickles import MAX_TENSORS
from invertune.clip.preprocessing import Preprocessing
from invertune.regular import parse_json, require_regular, sub_object

_HEAD = "head."
CONFIG = "open_clip_config"  # in the metadata of a file


def weights(model: CLIP) -> dict[str, Tensor]:
    """Return the model's tensors by name: open_clip's, and those of a head with ``head.``."""
    head = {} if model.head is None else model.head.state_dict()
    return {**model.clip.state_dict(), **{_HEAD + name: value for name, value in head.items()}}


def save_weights(model: CLIP, path: Path) -> None:
    """Write the model's weights as safetensors, with what no tensor's shape tells of it."""
    tensors = {name: value.contiguous() for name, value in weights(model).items()}
    safetensors.torch.save_file(tensors, path, {CONFIG: json.dumps(_config(model))})


def _config(model: CLIP) -> dict[str, Any]:
    """Return heads, activation and preprocessing, in the form of ``open_clip_config.json``."""
    clip: Any = model.clip
    visual = clip.visual
    blocks = visual.transformer.resblocks if hasattr(visual, "transformer") else None
    attention = visual.attnpool if blocks is None else blocks[0].attn
    width = (attention.c_proj if blocks is None else attention.out_proj).in_features
    quick = any(isinstance(module, QuickGELU) for module in clip.modules())
    vision = {"image_size": model.image_size, "head_width": width // attention.num_heads}
    if blocks is not None:
        vision |= {name: getattr(visual, name) for name in ("pool_type", "final_ln_after_pool")}
    return {
        "model_cfg": {
            "quick_gelu": quick,
            "vision_cfg": vision,
            "text_cfg": {"heads": clip.transformer.resblocks[0].attn.num_heads},
        },
        "preprocess_cfg": dataclasses.asdict(model.preprocessing),
    }  # fmt: skip


def load_weights(model: CLIP, path: Path) -> CLIP:
    """Read weights written by `save_weights` into ``model`` and return it.

    What they say of pixels counts more than what the model was built with.

    Raises:
        ValueError: If the file is not a safetensors file, or does not fit the model.
    """
    count_tensors(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the library raises a type of its own
        raise ValueError(f"{path} is not a safetensors checkpoint: {error}") from error
    differences = fit_errors(tensors, weights(model))
    if differences:
        raise ValueError(f"{path} does not fit {model.name}: tensors [{'; '.join(differences)}]")
    own = {name for name in tensors if name.startswith(_HEAD)}
    model.clip.load_state_dict({name: tensors[name] for name in tensors.keys() - own})
    if model.head is not None:
        model.head.load_state_dict({name.removeprefix(_HEAD): tensors[name] for name in own})
    preprocessing = _preprocessing(path)
    if preprocessing is not None:
        model.preprocess_by(preprocessing)
    return model


def _preprocessing(path: Path) -> Preprocessing | None:
    """Return what a file of `save_weights` says of pixels; None if it says nothing."""
    with safetensors.safe_open(path, framework="pt") as opened:
        told = (opened.metadata() or {}).get(CONFIG)
    try:
        given = sub_object(parse_json(told), "preprocess_cfg") if told else {}
        names = [field.name for field in dataclasses.fields(Preprocessing)]
        return Preprocessing(**{k: given[k] for k in names if k in given}) if given else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def count_tensors(path: Path) -> int:
    """Return how many tensors a safetensors file holds; only its header is read.

    Raises:
        ValueError: If it is no such file, or has more than `MAX_TENSORS`.
    """
    try:
        require_regular(path)
        with safetensors.safe_open(path, framework="pt") as opened:
            count = len(opened.keys())
    except Exception as error:  # the library raises a type of its own
        raise ValueError(f"{path} is not a safetensors checkpoint: {error}") from error
    if count > MAX_TENSORS:
        raise ValueError(f"{path} has {count} tensors; a model has at most {MAX_TENSORS}")
    return count


def fit_errors(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], show: int = 5
) -> list[str]:
    """Return the first differences of two states, a phrase each: shapes, then missing, then extra.

    Args:
        state: What was read.
        expected: What the model has.
        show: How many differences to return at most.
    """
    shapes = [
        f"{name} is {list(value.shape)}, the model has {list(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    missing = [f"{name} is missing" for name in expected if name not in state]
    extra = [f"{name} is not in the model" for name in state if name not in expected]
    return [*shapes, *missing, *extra][:show]
