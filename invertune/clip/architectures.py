"""What CLIP a set of tensors is: the open_clip config that their shapes tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

FORMATS = (
    "an OpenAI TorchScript archive, an open_clip or CleanCLIP training checkpoint, a state dict, "
    "safetensors weights, a Hugging Face CLIP folder"
)
HEAD_WIDTH = 64  # OpenAI's rule, where no config says otherwise
VOCABULARY = 49408  # of CLIP's own tokenizer


@dataclass(frozen=True)
class Heads:
    """How towers split into heads, which no tensor's shape tells.

    Attributes:
        text: Number of the text tower's.
        image: Number of the image tower's; None where their width is given.
        width: Of a head of the image tower.
    """

    text: int
    image: int | None = None
    width: int | None = None

    def of_image(self, width: int) -> int:
        """Return the number of heads of an image tower that is so wide; 0 if it does not split."""
        if self.image is not None:
            return self.image
        return 0 if self.width is None or width % self.width else width // self.width


def heads_of(config: Mapping[str, Any]) -> Heads:
    """Return the heads of an open_clip model config; what it leaves out has open_clip's default."""
    width = config["vision_cfg"].get("head_width", HEAD_WIDTH)
    return Heads(text=config["text_cfg"].get("heads", 8), width=width)


# Tensors that tell the architecture, and their number of dimensions.
_BOTH_KINDS = {
    "visual.conv1.weight": 4, "token_embedding.weight": 2, "positional_embedding": 2,
    "ln_final.weight": 1, "text_projection": 2, "logit_scale": 0,
}  # fmt: skip
_TEXT_TOWER = ("token_embedding.", "ln_final.", "text")  # a ViT alone has a transformer too
_VIT = {"visual.class_embedding": 1, "visual.positional_embedding": 2, "visual.proj": 2}
_RESNET = {"visual.layer1.0.conv1.weight": 4, "visual.attnpool.positional_embedding": 2}


def _is_resnet(state: dict[str, Tensor]) -> bool:
    return any(name.startswith("visual.layer1.") for name in state)


def require_clip(path: Path, state: dict[str, Tensor]) -> None:
    """Look for the tensors that every CLIP has.

    Args:
        path: Where they come from, for the message.
        state: Tensors in open_clip's names.

    Raises:
        ValueError: If some are not there; names the first.
    """
    needed = {**_BOTH_KINDS, **(_RESNET if _is_resnet(state) else _VIT)}
    absent = [
        name for name, ndim in needed.items() if name not in state or state[name].ndim != ndim
    ]
    if absent:
        pictures = any(value.ndim == 4 for value in state.values())  # convolutions
        if pictures and not any(name.startswith(_TEXT_TOWER) for name in state):
            raise ValueError(
                f"{path} is an image encoder alone: it has {len(state)} tensors, but no text "
                f"tower ({', '.join(_TEXT_TOWER)}), so there is no classifier to look at"
            )
        raise ValueError(
            f"{path} is no CLIP with a ViT or a ResNet: it has {len(state)} tensors, but no "
            f"{', '.join(absent[:5])}; choices: {FORMATS}"
        )
    vocabulary = len(state["token_embedding.weight"])
    if vocabulary != VOCABULARY:
        raise ValueError(
            f"{path} has {vocabulary} tokens; only CLIP's own tokenizer, of {VOCABULARY}, is known"
        )


def infer_architecture(
    path: Path,
    state: dict[str, Tensor],
    heads: Heads | None,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str | None, tuple[str, ...]]:
    """Return the open_clip config that the shapes tell, its name and what had to be assumed.

    Args:
        path: Where the tensors come from, for messages.
        state: Tensors in open_clip's names.
        heads: None for those of open_clip's model of these shapes, or else a width of `HEAD_WIDTH`.
        options: Further fields of the image tower's config that no shape tells.

    Raises:
        ValueError: If the shapes belong to no square image, or do not split into heads.
    """
    width = len(state["ln_final.weight"])
    text = {
        "context_length": len(state["positional_embedding"]),
        "vocab_size": len(state["token_embedding.weight"]),
        "width": width,
        "layers": _count(state, "transformer.resblocks."),
        **_mlp(state, "transformer.", width),
    }
    vision = _resnet(path, state) if _is_resnet(state) else _vit(path, state)
    embed_dim = state["text_projection"].shape[1]
    config = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}
    name, known = _known(config)
    if known is not None and heads is None:
        return known, name, ()
    _set_heads(path, config, heads)
    vision.update(options or {})
    if options or (known is not None and _heads(known) != _heads(config)):
        name = None
    assumed = "" if heads else f"heads are assumed: width / {HEAD_WIDTH}"
    return config, name, (assumed,) if assumed else ()


def _set_heads(path: Path, config: dict[str, Any], heads: Heads | None) -> None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    resnet = isinstance(vision["layers"], list)
    widths = vision["width"] * (32 if resnet else 1), text["width"]
    given = heads or Heads(text=widths[1] // HEAD_WIDTH, width=HEAD_WIDTH)
    counts = given.of_image(widths[0]), given.text
    for tower, width, count in zip(("image", "text"), widths, counts, strict=True):
        if count < 1 or width % count or (heads is None and width % HEAD_WIDTH):
            rule = f"{count} heads" if heads else f"heads of {HEAD_WIDTH}, as OpenAI's"
            raise ValueError(f"{path}: the {tower} tower, {width} wide, does not split into {rule}")
    text["heads"] = counts[1]
    head_width = widths[0] // counts[0]
    if not resnet or head_width != HEAD_WIDTH:
        vision["head_width"] = head_width


def _vit(path: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    width, patch = (state["visual.conv1.weight"].shape[i] for i in (0, -1))
    return {
        "image_size": patch * _grid(path, state, "visual.positional_embedding"),
        "layers": _count(state, "visual.transformer.resblocks."),
        "width": width,
        "patch_size": patch,
        **_mlp(state, "visual.transformer.", width),
    }


def _resnet(path: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "image_size": 32 * _grid(path, state, "visual.attnpool.positional_embedding"),
        "layers": [_count(state, f"visual.layer{stage}.") for stage in range(1, 5)],
        "width": len(state["visual.layer1.0.conv1.weight"]),
        "patch_size": None,
    }


def _grid(path: Path, state: dict[str, Tensor], name: str) -> int:
    rows = len(state[name])
    side = math.isqrt(max(rows - 1, 0))
    if side < 1 or side**2 + 1 != rows:
        raise ValueError(f"{path}: {name} has {rows} rows; a square image has n * n + 1")
    return side


def _count(state: dict[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)})


def _mlp(state: dict[str, Tensor], prefix: str, width: int) -> dict[str, float]:
    bias = state.get(f"{prefix}resblocks.0.mlp.c_fc.bias")
    if bias is None or bias.numel() == 4 * width:
        return {}
    return {"mlp_ratio": (bias.numel() + 0.5) / max(width, 1)}  # open_clip rounds down


def _known(config: dict[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """Return the model of open_clip's list whose tensors have the same shapes."""
    wanted = _shapes(config)
    for name in open_clip.list_models():
        known = open_clip.get_model_config(name)
        if _shapes(known) == wanted:
            return name, known
    return None, None


def _shapes(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config without heads, which no shape tells, and with the hidden width itself."""
    towers = {}
    for tower in ("vision_cfg", "text_cfg"):
        part = {k: v for k, v in config[tower].items() if k not in ("heads", "head_width")}
        part["mlp_ratio"] = int(part.get("mlp_ratio", 4.0) * part.get("width", 0))
        towers[tower] = part
    return {**config, **towers}


def _heads(config: dict[str, Any]) -> tuple[int, int]:
    return config["vision_cfg"].get("head_width", HEAD_WIDTH), config["text_cfg"]["heads"]
