"""How to build a CLIP: what a config says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch

from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.texts import Tokenizer
from invertune.fields import check_types


@dataclass(frozen=True)
class ModelSpec:
    """How to build one CLIP: an own open_clip config, or a name that open_clip knows.

    Attributes:
        name: Name in configs and results.
        open_clip_name: Name in open_clip's list, for a model with pre-trained weights.
        weights: open_clip's tag of the weights, such as ``openai``; None for random ones.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``), for
            a model of one's own.
        pretrain: Recipe of the pre-training here; None where weights are loaded.
        teacher: Spec of the model whose image embeddings the pre-training matches.
        preprocessing: Of its images; None for that of open_clip's weights, or OpenAI's.
    """

    name: str
    open_clip_name: str | None = None
    weights: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    pretrain: Any = None
    teacher: Any = None
    preprocessing: Any = None

    def __post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.preprocessing, Preprocessing | None):
            raise ValueError(f"preprocessing is a Preprocessing, got {self.preprocessing!r:.80}")

    def build(self, seed: int = 0) -> CLIP:
        """Return the model; an own architecture starts from random weights that ``seed`` decides.

        Raises:
            ValueError: If neither an open_clip name nor an architecture is given.
        """
        if self.open_clip_name is not None:
            return _build_known(self.name, self.open_clip_name, self.weights, self.preprocessing)
        if not self.architecture:
            raise ValueError(f"model {self.name} needs open_clip_name or architecture")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = {key: _plain(value) for key, value in self.architecture.items()}
            clip = open_clip.CLIP(**config)
        size = config["vision_cfg"]["image_size"]
        model = CLIP(self.name, clip, self.tokenizer(), size, self.preprocessing)
        return model.to(memory_format=torch.channels_last)

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer with the model's context length, without the model.

        Raises:
            ValueError: If it says neither a name that open_clip knows nor an architecture.
        """
        if self.open_clip_name is not None:
            if open_clip.get_model_config(self.open_clip_name) is None:
                known = ", ".join(open_clip.list_models())
                raise ValueError(f"open_clip_name is one of {known}, got {self.open_clip_name!r}")
            return open_clip.get_tokenizer(self.open_clip_name)  # type: ignore[no-any-return]
        text = self.architecture.get("text_cfg")
        if not isinstance(text, Mapping) or not isinstance(text.get("context_length"), int):
            raise ValueError(
                f"model {self.name} needs open_clip_name, or architecture with "
                "text_cfg.context_length, an integer"
            )
        return open_clip.SimpleTokenizer(context_length=text["context_length"])  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _build_known(
    name: str, open_clip_name: str, weights: str | None, preprocessing: Preprocessing | None
) -> CLIP:
    clip: Any = open_clip.create_model(open_clip_name, pretrained=weights, precision="fp32")
    config = open_clip.get_model_config(open_clip_name) or {}
    size = config["vision_cfg"]["image_size"]
    if preprocessing is None:  # not all of open_clip's weights were trained with OpenAI's
        known = clip.visual.preprocess_cfg
        preprocessing = Preprocessing(
            known["mean"], known["std"], known["resize_mode"], known["interpolation"]
        )
    model = CLIP(name, clip, open_clip.get_tokenizer(open_clip_name), size, preprocessing)
    return model.to(memory_format=torch.channels_last)
