"""CLIP checkpoints from elsewhere: what they are, and their weights as a `CLIP`.

Nothing that a file brings along is run: see `invertune.clip.tensor_files`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.activation import Activation, decide, other_activation
from invertune.clip.architectures import FORMATS, infer_architecture, require_clip
from invertune.clip.assembly import assemble, expected_state
from invertune.clip.beside import Beside, read_beside
from invertune.clip.files import HF_CONFIG, OPEN_CLIP_CONFIG, find_weights, parts
from invertune.clip.hugging_face import HF_TOWERS
from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.states import OPENAI_EXTRAS, normalized, not_finite
from invertune.clip.tensor_files import RawCheckpoint, read_tensors
from invertune.clip.weights import fit_errors

log = logging.getLogger(__name__)

__all__ = ["FORMATS", "Checkpoint", "fit_errors", "load_clip", "read_checkpoint"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

_COMPARED = 8
_TEXTS = [f"a picture of {what}" for what in ("a cat", "a dog", "a car", "a tree", "a house")]


class Difference(NamedTuple):
    """Mean cosine of a model's features with GELU to those with QuickGELU.

    Attributes:
        images: Of smooth noise. A ResNet has neither activation, so that it is 1 there.
        texts: Of everyday words.
    """

    images: float
    texts: float


@dataclass(frozen=True)
class Checkpoint:
    """A CLIP checkpoint, whatever wrote it.

    Attributes:
        kind: What it is, in words.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``,
            ``quick_gelu``) that its tensors fit.
        open_clip_name: Name in open_clip's list, such as ``RN50``; None if it has no such model.
        activation: Whether it is QuickGELU, and what says so; `difference` measures what an
            undecided one is worth.
        preprocessing: Of its images, as the files beside it have it, or else OpenAI's.
        state: float32 tensors by open_clip's names.
        files: What was read.
        notes: What else is to be known: epoch, what was left out, what was assumed.
    """

    kind: str
    architecture: dict[str, Any]
    open_clip_name: str | None
    activation: Activation
    preprocessing: Preprocessing
    state: dict[str, Tensor]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def activation_known(self) -> bool:
        """Whether there is evidence for the activation."""
        return self.activation.decided

    @property
    def parameter_count(self) -> int:
        """Number of parameters, both towers, without the statistics of batch normalization."""
        return sum(t.numel() for name, t in self.state.items() if not name.endswith(_STATISTICS))

    def build(self, name: str) -> CLIP:
        """Return the model in evaluation mode, called ``name``."""
        with torch.random.fork_rng(devices=[]):  # of weights that the state then overwrites
            model = assemble(name, self.architecture, self.preprocessing)
        model.clip.load_state_dict(self.state)
        return model.eval()

    def difference(self, model: CLIP | None = None) -> Difference:
        """Return how far the two readings of the activation agree.

        Args:
            model: What `build` made, where it is there already.
        """
        model = model or self.build("")
        side = self.architecture["vision_cfg"]["image_size"]
        grid = torch.rand(_COMPARED, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        smooth = F.interpolate(grid, (side, side), mode="bilinear", align_corners=False)
        with torch.no_grad():
            one = model.encode_image(smooth), model.encode_text(_TEXTS)
            with other_activation(model):
                other = model.encode_image(smooth), model.encode_text(_TEXTS)
        return Difference(*(float((a * b).sum(1).mean()) for a, b in zip(one, other, strict=True)))


def load_clip(path: Path, quick_gelu: bool | None = None) -> CLIP:
    """Return the model that a checkpoint holds, in evaluation mode, called like its file.

    Where nothing says which activation it has, a warning says how much that matters.

    Raises:
        ValueError: As `read_checkpoint` does.
    """
    found = read_checkpoint(path, quick_gelu)
    model = found.build(path.stem)
    if not found.activation.decided:
        log.warning("%s: %s", path, undecided(found, model))
    return model


def undecided(checkpoint: Checkpoint, model: CLIP | None = None) -> str:
    """Return in words that nothing decides the activation, and how much that matters."""
    said = f"the activation is undecided, GELU or QuickGELU; {checkpoint.activation.name} is taken"
    try:
        images, texts = checkpoint.difference(model)
    except ValueError:
        return f"{said}. The features of the two are not finite numbers and cannot be compared"
    return (
        f"{said}. The features of the two have a mean cosine of {images:.3f} on {_COMPARED} "
        f"images, of {texts:.3f} on {len(_TEXTS)} texts"
    )


def read_checkpoint(
    path: Path,
    quick_gelu: bool | None = None,
    *,
    otherwise: Beside | None = None,
    usual: str | None = None,
) -> Checkpoint:
    """Read a CLIP checkpoint: its content decides what it is, not its suffix.

    Args:
        path: A file, or a folder that holds one, as Hugging Face and open_clip have them.
        quick_gelu: Whether the activation is QuickGELU; None to take what the files say
            (`invertune.clip.activation.decide`).
        otherwise: What is taken of heads, options and pixels where the files say nothing.
        usual: Name that the file has in a folder where several could be meant.

    Raises:
        ValueError: If there is no such file, if it holds more than data, if it is no checkpoint or
            none of a CLIP with a ViT or a ResNet, or if its tensors do not fit each other.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; a checkpoint is {FORMATS}")
    raw = _read_folder(path, usual) if path.is_dir() else _read_file(path)
    hugging_face = any(name.startswith(HF_TOWERS) for name in raw.state)
    beside = read_beside(raw.files[0], hugging_face, raw.metadata)
    beside = beside if otherwise is None else beside.over(otherwise)
    state = normalized(path, raw.state, raw.files)
    require_clip(path, state)
    config, name, assumed = infer_architecture(path, state, beside.heads, beside.vision)
    differences = fit_errors(state, _expected(path, config))
    if differences:
        what = f"open_clip's {name}" if name else "a CLIP of its size"
        raise ValueError(f"{path} does not fit {what}: {'; '.join(differences)}")
    activation = decide(quick_gelu, beside.quick_gelu, raw.run, raw.openai)
    notes = (*raw.notes, *beside.notes, *assumed, *_sized(config, beside), *not_finite(state))
    return Checkpoint(
        raw.kind,
        {**config, "quick_gelu": activation.quick_gelu},
        name,
        activation,
        beside.preprocessing or Preprocessing(),
        state,
        (*raw.files, *beside.files),
        notes,
    )


def _sized(config: dict[str, Any], beside: Beside) -> list[str]:
    """Return a note on another image size than the tensors', if there is one."""
    own, told = config["vision_cfg"]["image_size"], beside.image_size
    if told is None or told == own:
        return []
    return [f"its files say {told} pixels, its tensors {own}, which are taken"]


def _expected(path: Path, config: dict[str, Any]) -> Mapping[str, Tensor]:
    try:
        return expected_state(config)
    except Exception as error:  # sizes of zero and the like
        raise ValueError(f"{path} has sizes that no CLIP is built of: {error}") from error


def _read_file(path: Path) -> RawCheckpoint:
    raw = read_tensors(path)
    if any(name.startswith(HF_TOWERS) for name in raw.state):
        return replace(raw, kind="Hugging Face CLIP weights")
    return replace(raw, openai=raw.openai or raw.state.keys() >= OPENAI_EXTRAS)


def _read_folder(path: Path, usual: str | None) -> RawCheckpoint:
    weights = find_weights(path, usual)
    shards = parts(weights)
    if shards == [weights]:
        raw = _read_file(weights)
    else:
        state: dict[str, Tensor] = {}
        for file in shards:
            state |= read_tensors(file).state
        raw = RawCheckpoint("Hugging Face CLIP weights", state, (weights, *shards))
    if not (weights.parent / HF_CONFIG).is_file() and not (path / OPEN_CLIP_CONFIG).is_file():
        return raw
    ours = not any(name.startswith(HF_TOWERS) for name in raw.state)
    return replace(raw, kind="open_clip folder" if ours else "Hugging Face CLIP folder")
