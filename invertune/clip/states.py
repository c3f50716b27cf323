"""The tensors of a checkpoint, as a model of open_clip's takes them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from invertune.clip.hugging_face import HF_TOWERS, from_hugging_face

OPENAI_EXTRAS = {"input_resolution", "context_length", "vocab_size"}  # tensors of its archives
_MOST_OFTEN = 4  # times that the bytes of a file may serve as tensors


def normalized(path: Path, state: dict[str, Tensor], files: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return float32 copies by open_clip's names, without what its models do not save.

    Raises:
        ValueError: If a tensor is none that a model's weights are.
    """
    for name, value in state.items():
        _require_plain(path, name, value)
    total = sum(value.numel() * value.element_size() for value in state.values())
    if total > _MOST_OFTEN * sum(file.stat().st_size for file in files):
        raise ValueError(f"{path}: its tensors share so much memory that copies would not fit")
    if any(name.startswith(HF_TOWERS) for name in state):
        state = from_hugging_face(state)
    result = {}
    for name, value in state.items():
        if name in OPENAI_EXTRAS or name.endswith(("attn_mask", "position_ids")):
            continue
        # A copy in any case: a mapped file may change later.
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        result[name] = value.detach().to(dtype, copy=True).contiguous()
    for name in [name for name in result if name.endswith(".running_mean")]:
        counter = name.removesuffix("running_mean") + "num_batches_tracked"
        result.setdefault(counter, torch.tensor(0))  # some writers leave it out
    if "logit_scale" in result and result["logit_scale"].numel() == 1:
        result["logit_scale"] = result["logit_scale"].reshape(())
    return result


def _require_plain(path: Path, name: str, value: Tensor) -> None:
    """Compare a tensor with what weights are, before it is copied.

    Raises:
        ValueError: If it is sparse, quantized, without data, complex, empty, or an expanded view,
            which a small file can make larger than any memory.
    """
    dense = value.layout is torch.strided and not value.is_quantized and not value.is_meta
    if not dense or value.is_complex():
        raise ValueError(f"{path}: {name} is no dense tensor of real numbers")
    if value.numel() == 0:
        raise ValueError(f"{path}: {name} is empty, of shape {list(value.shape)}")
    held = value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > held:
        raise ValueError(
            f"{path}: {name}, of shape {list(value.shape)}, is larger than the {held} bytes that "
            "the file holds of it"
        )


def not_finite(state: dict[str, Tensor]) -> list[str]:
    """Return a note on tensors with NaN or infinite values, if there are any."""
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    shown = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
    return [f"{len(broken)} tensors hold NaN or infinite values: {shown}"] if broken else []
