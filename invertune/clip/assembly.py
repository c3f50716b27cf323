"""A CLIP of an open_clip model config, with random weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.texts import Tokenizer
from invertune.fields import is_number

# What open_clip gets from other libraries, or builds as another class than its CLIP.
_FOREIGN = ("hf_", "timm_")
_OTHER_CLASSES = ("custom_text", "multimodal_cfg")
# What open_clip would build without a word, or end over deep inside, if it were 0.
_SIZES = ("embed_dim", "image_size", "patch_size", "layers", "width", "heads", "head_width",
          "context_length", "vocab_size")  # fmt: skip


def assemble(
    name: str, architecture: Mapping[str, Any], preprocessing: Preprocessing | None = None
) -> CLIP:
    """Return a model whose random weights the global generator decides.

    Args:
        name: Of the model, in configs and results.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``).
        preprocessing: Of its images; OpenAI's if None.

    Raises:
        ValueError: If open_clip cannot build such a model.
    """
    config = {key: _plain(value) for key, value in architecture.items()}
    _check_sizes(name, config)
    try:
        clip = open_clip.CLIP(**config)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever it meets inside
        raise ValueError(
            f"open_clip cannot build the architecture of {name}: {type(error).__name__}: {error}"
        ) from error
    tokenizer = simple_tokenizer(config["text_cfg"].get("context_length", 77))
    model = CLIP(name, clip, tokenizer, config["vision_cfg"]["image_size"], preprocessing)
    return model.to(memory_format=torch.channels_last)


def _check_sizes(name: str, config: Mapping[str, Any]) -> None:
    for place in ("", "vision_cfg", "text_cfg"):
        part = config.get(place) if place else config
        if not isinstance(part, Mapping):
            raise ValueError(f"model {name} needs architecture.{place}, got {part!r:.80}")
        if place == "vision_cfg" and part.get("image_size") is None:
            raise ValueError(f"model {name} needs architecture.vision_cfg.image_size")
        ratio = part.get("mlp_ratio", 1)
        if not is_number(ratio) or ratio <= 0:
            raise ValueError(f"architecture.{place}.mlp_ratio of {name} is positive, got {ratio!r}")
        for key in _SIZES:
            value = part.get(key)
            sizes = value if isinstance(value, list | tuple) else [value]
            if key in part and value is not None and not all(map(_is_size, sizes)):
                field = f"{place}.{key}" if place else key
                raise ValueError(
                    f"architecture.{field} of {name} holds integers of at least 1, got {value!r}"
                )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def expected_state(architecture: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of such a model by open_clip's names: shapes without memory."""
    with torch.device("meta"):
        return dict(open_clip.CLIP(**architecture).state_dict())


@functools.cache
def simple_tokenizer(context_length: int) -> Tokenizer:
    """Return CLIP's own tokenizer for models of so many tokens, which share it."""
    return _SharedTokenizer(context_length=context_length)


class _SharedTokenizer(open_clip.SimpleTokenizer):  # type: ignore[misc]  # open_clip has no types
    """A tokenizer that copies of a model have in common: nothing of one changes it.

    Its 49,408 entries take half a second to copy, a small model's weights a hundredth of that.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedTokenizer:
        return self


def known_architecture(open_clip_name: str) -> dict[str, Any]:
    """Return the config of a model of open_clip's list.

    Raises:
        ValueError: If there is no such model, or open_clip would build a part of it by another
            library, or fetch it.
    """
    config: dict[str, Any] | None = None
    if open_clip_name in open_clip.list_models():  # other names ask the hub
        config = open_clip.get_model_config(open_clip_name)
    if config is None:
        names = open_clip.list_models()
        known = ", ".join(n for n in names if not _foreign(open_clip.get_model_config(n)))
        raise ValueError(f"open_clip_name is one of {known}, got {open_clip_name!r:.80}")
    foreign = _foreign(config)
    if foreign:
        raise ValueError(
            "open_clip_name is a model of open_clip's own ViT or ResNet and text tower, "
            f"{open_clip_name} has {', '.join(foreign)}"
        )
    return config


def _foreign(config: Mapping[str, Any]) -> list[str]:
    """Return the fields of a config that ask for other classes or libraries."""
    return [
        key
        for part in (config, config["vision_cfg"], config["text_cfg"])
        for key, value in part.items()
        if value and (key.startswith(_FOREIGN) or key in _OTHER_CLASSES)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
