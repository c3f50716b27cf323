"""How to build a CLIP: what a config says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from invertune.clip.assembly import assemble, known_architecture, simple_tokenizer
from invertune.clip.checkpoints import Checkpoint
from invertune.clip.files import content_hash, find_weights
from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.pretrained import read_own, read_tag, require_tag, usual_name
from invertune.clip.texts import Tokenizer
from invertune.fields import check_types


@dataclass(frozen=True)
class ModelSpec:
    """How to build one CLIP: an own open_clip config, or a name that open_clip knows.

    Attributes:
        name: Name in configs and results.
        open_clip_name: Name in open_clip's list, for a model with pre-trained weights.
        weights: open_clip's tag of the weights, such as ``openai``, which are downloaded where they
            are not there yet; None for random ones.
        path: A file of weights, or a folder that holds one, in place of ``weights``.
        sha256: Of ``path``, as `invertune.clip.files.content_hash` has it; None if it may be any.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``), for
            a model of one's own.
        pretrain: Recipe of the pre-training here; None where weights are loaded.
        teacher: Spec of the model whose image embeddings the pre-training matches.
        preprocessing: Of its images; None for that of the weights, or OpenAI's.
    """

    name: str
    open_clip_name: str | None = None
    weights: str | None = None
    path: str | None = None
    sha256: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    pretrain: Any = None
    teacher: Any = None
    preprocessing: Any = None

    def __post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.preprocessing, Preprocessing | None):
            raise ValueError(f"preprocessing is a Preprocessing, got {self.preprocessing!r:.80}")

    def build(self, seed: int = 0) -> CLIP:
        """Return the model with its weights; where there are none to load, ``seed`` decides them.

        Raises:
            ValueError: If neither an open_clip name nor an architecture is given, or the weights
                cannot be read, or are those of another model.
        """
        found = self._found()
        model = self.untrained(seed)
        if found is not None:
            model.clip.load_state_dict(found.state)
            model.preprocess_by(self.preprocessing or found.preprocessing)
        return model

    def untrained(self, seed: int = 0) -> CLIP:
        """Return the model with random weights, which ``seed`` alone decides.

        Raises:
            ValueError: If neither an open_clip name nor an architecture is given.
        """
        config = self._config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return assemble(self.name, config, self.preprocessing)

    def check(self) -> None:
        """Look for what would stop `build`, without reading or downloading any weights.

        Raises:
            ValueError: If open_clip has no such model or weights, or there is no such file.
        """
        self._config()
        if self.path is not None:
            find_weights(self._path(), usual_name(self.open_clip_name))
        elif self.weights is not None and self.open_clip_name is not None:
            require_tag(self.open_clip_name, self.weights)

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer with the model's context length, without the model.

        Raises:
            ValueError: If it says neither a name that open_clip knows nor an architecture.
        """
        if self.open_clip_name is not None:
            text = known_architecture(self.open_clip_name)["text_cfg"]
        else:
            text = self.architecture.get("text_cfg")
        if not isinstance(text, Mapping) or not isinstance(text.get("context_length"), int):
            raise ValueError(
                f"model {self.name} needs open_clip_name, or architecture with "
                "text_cfg.context_length, an integer"
            )
        return simple_tokenizer(text["context_length"])

    def _config(self) -> Mapping[str, Any]:
        if self.open_clip_name is not None:
            return known_architecture(self.open_clip_name)
        if not self.architecture:
            raise ValueError(f"model {self.name} needs open_clip_name or architecture")
        return self.architecture

    def _path(self) -> Path:
        return Path(self.path or "").expanduser()

    def _found(self) -> Checkpoint | None:
        """Return the weights; None if they are random."""
        if self.path is not None:
            path = self._path()
            own = content_hash(path, usual_name(self.open_clip_name))
            if self.sha256 not in (own, None):
                raise ValueError(f"{path} has the SHA-256 {own}, the model's is {self.sha256}")
            return read_own(self.name, path, self._config(), self.open_clip_name)
        if self.weights is None:
            return None
        if self.open_clip_name is None:
            raise ValueError(f"weights={self.weights} are open_clip's: they need open_clip_name")
        return read_tag(self.name, self.open_clip_name, self.weights)
