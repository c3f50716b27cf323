"""CLIP checkpoints from elsewhere: what they are, and their weights as a `CLIP`.

Nothing that a file brings along is run. Pickles go through torch's reader of weights alone, which
refuses everything but tensors and plain containers; TorchScript goes through its own reader.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import safetensors.torch
import torch
from torch import Tensor

from invertune.architectures import FORMATS, infer_architecture, require_clip
from invertune.models import CLIP, ModelSpec, fit_errors

__all__ = ["FORMATS", "Checkpoint", "fit_errors", "load_clip", "read_checkpoint"]

HF_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_OPENAI_EXTRAS = {"input_resolution", "context_length", "vocab_size"}
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip.")  # of DDP, torch.compile and wrappers
_DEFAULT = "open_clip's default"
_CARD = "card.json"  # of a checkpoint bundle, which invertune export writes
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_HF_TOWERS = ("text_model.", "vision_model.")

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


@dataclass(frozen=True)
class _Raw:
    """What files hold, still under their own names, and what they say about the model."""

    kind: str
    state: dict[str, Tensor]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    quick_gelu: bool = False
    why: str | None = _DEFAULT  # the activation is assumed; None: it is known
    heads: tuple[int, int] | None = None  # of the image and the text tower


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


def _read_file(path: Path) -> _Raw:
    if _is_torchscript(path):
        why = "OpenAI's models have it"
        return _Raw("OpenAI TorchScript archive", _torchscript(path), (path,), (), True, why)
    raw = _read_tensors(path)
    if any(name.startswith(_HF_TOWERS) for name in raw.state):
        raw = replace(raw, kind="Hugging Face CLIP weights", quick_gelu=False, why=_DEFAULT)
        config = path.parent / "config.json"
        return _configured(raw, config) if config.is_file() else raw
    if raw.state.keys() >= _OPENAI_EXTRAS:
        return replace(raw, quick_gelu=True, why="OpenAI's models have it")
    return raw


def _read_folder(path: Path) -> _Raw:
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
        shards = sorted({str(name) for name in _object(_json(weights), "weight_map").values()})
        for shard in shards:
            if Path(shard).name != shard or not (path / shard).is_file():
                raise ValueError(f"{weights} names the shard {shard!r}, no file beside it")
        files = [path / shard for shard in shards]
    state: dict[str, Tensor] = {}
    for file in files:
        state |= _read_tensors(file).state
    read = tuple(dict.fromkeys((weights, *files)))
    return _configured(_Raw("Hugging Face CLIP folder", state, read), config)


def _read_tensors(path: Path) -> _Raw:
    with path.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file starts with the length of its JSON header.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        try:
            content = safetensors.torch.load_file(path)
        except Exception as error:  # the library raises a type of its own
            raise ValueError(f"{path} is a damaged safetensors file: {error}") from error
        return _unwrapped(path, content, "safetensors weights in OpenAI/open_clip naming")
    content = _unpickled(path, head)
    return _unwrapped(path, content, "state dict in OpenAI/open_clip naming")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch's reader finds entries whatever the case of their names.
            names = [entry.filename.lower() for entry in entries]
            sources = [archive.read(e) for e, n in zip(entries, names, strict=True) if "code/" in n]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if len(set(names)) < len(names):
        raise ValueError(f"{path} is refused: two entries of the archive have the same name")
    # The one method that TorchScript itself would run while it reads the file.
    if any(b"__setstate__" in source for source in sources):
        raise ValueError(
            f"{path} is refused: its TorchScript has a __setstate__, code that runs when it is read"
        )
    return bool(sources) and any(name.endswith("/constants.pkl") for name in names)


def _torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; there is no other reader
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # of any type, in a damaged file
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is a damaged TorchScript archive: {reason}") from error
    return dict(module.state_dict())


def _unpickled(path: Path, head: bytes) -> Any:
    # Mapped, the optimizer's state is never read; only torch's newer format, a zip, can be mapped.
    mapped = head.startswith(b"PK\x03\x04")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of what is then refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of any type, when bytes that are no pickle are read as one
        if isinstance(error, pickle.UnpicklingError) and (mapped or head.startswith(b"\x80")):
            raise ValueError(_refusal(path, str(error))) from error
        raise ValueError(f"{path} is no checkpoint; choices: {FORMATS}") from error


def _refusal(path: Path, message: str) -> str:
    asked = re.search(r"GLOBAL (\S+)", message)
    if asked:
        reason = f"asks for the global {asked[1]}, which is no tensor"
    else:
        found = re.search(r"WeightsUnpickler error:\s*(.+)", message)
        reason = f"holds more than tensors ({found[1] if found else 'in a form of its own'})"
    return f"{path} is refused: its pickle {reason} and is not executed; save a state dict alone"


def _unwrapped(path: Path, content: Any, kind: str) -> _Raw:
    """Take the tensors out of a checkpoint's dict, and name who writes such a dict."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    wrapper = next((key for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), None)
    inner = content if wrapper is None else content[wrapper]
    state = {k: v for k, v in inner.items() if isinstance(k, str) and isinstance(v, Tensor)}
    state, parallel = _without_prefixes(state)
    if wrapper is None:
        return _Raw(kind, state, (path,))
    notes = [f"{key} {content[key]!r:.80}" for key in ("epoch", "name") if key in content]
    left_out = sorted(str(key) for key in content if key not in (wrapper, "epoch", "name"))
    notes += [f"left out: {', '.join(left_out):.200}"] if left_out else []
    raw = _Raw("open_clip training checkpoint", state, (path,), tuple(notes))
    # Both write the same dict, but open_clip adds a scaler, and unwraps its model first.
    if parallel and "scaler" not in content:
        kind = "CleanCLIP-family checkpoint (module. prefixes)"
        return replace(raw, kind=kind, quick_gelu=True, why="its code is OpenAI's")
    why = f"{_DEFAULT}; CleanCLIP on one GPU writes the same dict and has QuickGELU"
    return replace(raw, why=why)


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return the state without prefixes that all names share, and whether DDP's was among them."""
    parallel = False
    while state:
        shared = [p for p in _PREFIXES if all(name.startswith(p) for name in state)]
        if not shared:
            break
        parallel |= shared[0] == "module."
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    return state, parallel


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _tower(config: dict[str, Any], name: str, heads: int) -> dict[str, Any]:
    """Return one tower's config; what transformers leaves out has its default."""
    default: dict[str, Any] = {"hidden_act": "quick_gelu", "num_attention_heads": heads}
    return default | _object(config, f"{name}_config") | _object(config, f"{name}_config_dict")


def _configured(raw: _Raw, path: Path) -> _Raw:
    """Add what Hugging Face's ``config.json`` says about the model."""
    config = _json(path)
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


def _normalized(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 copies by open_clip's names, without what its models do not save.

    Raises:
        ValueError: If a tensor is none that a model's weights are.
    """
    for name, value in state.items():
        _require_plain(path, name, value)
    if any(name.startswith(_HF_TOWERS) for name in state):
        state = _from_hugging_face(state)
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


def _from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for theirs, value in state.items():
        if theirs in _HF_PROJECTIONS:
            result[_HF_PROJECTIONS[theirs]] = value.mT if value.ndim == 2 else value
            continue
        name = theirs
        for part, ours in _HF_PARTS.items():
            name = name.replace(part, ours)
        found = re.fullmatch(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)", name)
        if found:
            joined.setdefault(f"{found[1]}in_proj_{found[3]}", {})[found[2]] = value
        else:
            result[name] = value
    for name, parts in joined.items():
        if len(parts) == 3 and len({part.shape for part in parts.values()}) == 1:
            result[name] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return result
