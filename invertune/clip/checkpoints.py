"""CLIP checkpoints from elsewhere: what they are, and their weights as a `CLIP`.

Nothing that a file brings along is run. Pickles go through torch's reader of weights alone, which
refuses everything but tensors and plain containers; TorchScript goes through its own reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from invertune.clip.architectures import FORMATS, infer_architecture, require_clip
from invertune.clip.hugging_face import HF_TOWERS, HF_WEIGHTS, configured, from_hugging_face
from invertune.clip.models import CLIP, ModelSpec
from invertune.clip.tensor_files import (
    OPEN_CLIP_DEFAULT,
    RawCheckpoint,
    is_torchscript,
    read_json,
    read_tensors,
    read_torchscript,
    sub_object,
)
from invertune.clip.weights import fit_errors

__all__ = ["FORMATS", "Checkpoint", "fit_errors", "load_clip", "read_checkpoint"]

_OPENAI_EXTRAS = {"input_resolution", "context_length", "vocab_size"}
_CARD = "card.json"  # of a checkpoint bundle, which invertune export writes
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Checkpoint:
    """A CLIP checkpoint, whatever wrote it.

    Attributes:
        kind: What it is, in words.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``,
            ``quick_gelu``) that its tensors fit.
        open_clip_name: Name in open_clip's list, such as ``RN50``; None if it has no such model.
        activation_known: Whether the file or the caller says if the activation is QuickGELU;
            False if it is assumed.
        state: float32 tensors by open_clip's names.
        files: What was read.
        notes: What else is to be known: epoch, what was left out, what was assumed.
    """

    kind: str
    architecture: dict[str, Any]
    open_clip_name: str | None
    activation_known: bool
    state: dict[str, Tensor]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def parameter_count(self) -> int:
        """Number of parameters, both towers, without the statistics of batch normalization."""
        return sum(t.numel() for name, t in self.state.items() if not name.endswith(_STATISTICS))

    def build(self, name: str) -> CLIP:
        """Return the model in evaluation mode, called ``name``."""
        model = ModelSpec(name, architecture=self.architecture).build()
        model.clip.load_state_dict(self.state)
        return model.eval()


def load_clip(path: Path, quick_gelu: bool | None = None) -> CLIP:
    """Return the model that a checkpoint holds, in evaluation mode, called like its file.

    Raises:
        ValueError: As `read_checkpoint` does.
    """
    return read_checkpoint(path, quick_gelu).build(path.stem)


def read_checkpoint(path: Path, quick_gelu: bool | None = None) -> Checkpoint:
    """Read a CLIP checkpoint: its content decides what it is, not its suffix.

    Args:
        path: A file, or a Hugging Face folder.
        quick_gelu: Whether the activation is QuickGELU; None to take what the file says, or to
            assume what its kind has.

    Raises:
        ValueError: If there is no such file, if it would run code, if it is no checkpoint or none
            of a CLIP with a ViT or a ResNet, or if its tensors do not fit each other.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; a checkpoint is {FORMATS}")
    raw = _read_folder(path) if path.is_dir() else _read_file(path)
    state = _normalized(path, raw.state)
    require_clip(path, state)
    config, name, notes = infer_architecture(path, state, raw.heads)
    differences = fit_errors(state, _expected(path, config))
    if differences:
        what = f"open_clip's {name}" if name else "a CLIP of its size"
        raise ValueError(f"{path} does not fit {what}: {'; '.join(differences)}")
    if quick_gelu is not None:
        raw = replace(raw, quick_gelu=quick_gelu, why=None)
    if raw.why is not None:
        activation = "QuickGELU" if raw.quick_gelu else "GELU"
        notes = (*notes, f"activation {activation} is assumed: {raw.why}")
    config = {**config, "quick_gelu": raw.quick_gelu}
    notes = (*raw.notes, *notes, *_not_finite(state))
    return Checkpoint(raw.kind, config, name, raw.why is None, state, raw.files, notes)


def _expected(path: Path, config: dict[str, Any]) -> Mapping[str, Tensor]:
    try:
        with torch.device("meta"):  # shapes without memory
            return dict(open_clip.CLIP(**config).state_dict())
    except Exception as error:  # sizes of zero and the like
        raise ValueError(f"{path} has sizes that no CLIP is built of: {error}") from error


def _read_file(path: Path) -> RawCheckpoint:
    if is_torchscript(path):
        why = "OpenAI's models have it"
        return RawCheckpoint(
            "OpenAI TorchScript archive", read_torchscript(path), (path,), (), True, why
        )
    raw = read_tensors(path)
    if any(name.startswith(HF_TOWERS) for name in raw.state):
        raw = replace(
            raw, kind="Hugging Face CLIP weights", quick_gelu=False, why=OPEN_CLIP_DEFAULT
        )
        config = path.parent / "config.json"
        return configured(raw, config) if config.is_file() else raw
    if raw.state.keys() >= _OPENAI_EXTRAS:
        return replace(raw, quick_gelu=True, why="OpenAI's models have it")
    return raw


def _read_folder(path: Path) -> RawCheckpoint:
    weights = next((path / name for name in HF_WEIGHTS if (path / name).is_file()), None)
    config = path / "config.json"
    if (path / _CARD).is_file():
        raise ValueError(
            f"{path} is a checkpoint bundle, whose {_CARD} says what it is; "
            f"invertune verify {path} measures it"
        )
    if weights is None or not config.is_file():
        choices = ", ".join(HF_WEIGHTS)
        raise ValueError(
            f"{path} is no Hugging Face CLIP folder: it needs config.json and one of {choices}"
        )
    files = [weights]
    if weights.suffix == ".json":
        shards = sorted(
            {str(name) for name in sub_object(read_json(weights), "weight_map").values()}
        )
        for shard in shards:
            if Path(shard).name != shard or not (path / shard).is_file():
                raise ValueError(f"{weights} names the shard {shard!r}, no file beside it")
        files = [path / shard for shard in shards]
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_tensors(file).state
    read = tuple(dict.fromkeys((weights, *files)))
    return configured(RawCheckpoint("Hugging Face CLIP folder", state, read), config)


def _normalized(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 copies by open_clip's names, without what its models do not save.

    Raises:
        ValueError: If a tensor is none that a model's weights are.
    """
    for name, value in state.items():
        _require_plain(path, name, value)
    if any(name.startswith(HF_TOWERS) for name in state):
        state = from_hugging_face(state)
    result = {}
    for name, value in state.items():
        if name in _OPENAI_EXTRAS or name.endswith(("attn_mask", "position_ids")):
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


def _not_finite(state: dict[str, Tensor]) -> list[str]:
    """Return a note on tensors with NaN or infinite values, if there are any."""
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    shown = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
    return [f"{len(broken)} tensors hold NaN or infinite values: {shown}"] if broken else []
