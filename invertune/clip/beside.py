"""What the files beside a model's weights say of it: its activation, its heads, its input.

Hugging Face's folders have ``config.json`` and ``preprocessor_config.json``, open_clip's
``open_clip_config.json``, and a checkpoint bundle ``card.json``. All of them come from strangers:
they are read as numbers and words, and nothing is built from them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invertune.clip.architectures import HEAD_WIDTH, Heads
from invertune.clip.files import CARD, HF_CONFIG, HF_INPUT, OPEN_CLIP_CONFIG
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.weights import CONFIG
from invertune.regular import parse_json, read_json, sub_object

_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
# Of open_clip's image towers; the first choice is the default.
VISION_OPTIONS: dict[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "avg"), "final_ln_after_pool": (False, True),
}  # fmt: skip
_ACTIVATIONS = {"GELU": False, "QuickGELU": True}


@dataclass(frozen=True)
class Beside:
    """What is said of a model beside its weights; None where nothing is.

    Attributes:
        files: That said it.
        quick_gelu: Whether the activation is QuickGELU.
        heads: Of both towers, which no tensor's shape tells.
        vision: What else of the image tower's config no shape tells, where it is not the default.
        preprocessing: Of its input.
        image_size: Of its input, in pixels.
        notes: What else is to be known.
    """

    files: tuple[Path, ...] = ()
    quick_gelu: bool | None = None
    heads: Heads | None = None
    vision: Mapping[str, Any] | None = None
    preprocessing: Preprocessing | None = None
    image_size: int | None = None
    notes: tuple[str, ...] = ()

    def over(self, other: Beside) -> Beside:
        """Return both, where this one's word counts more."""
        notes = self.notes
        if self.preprocessing and other.preprocessing not in (None, self.preprocessing):
            first = self.files[0].name if self.files else "the weights' file"
            notes += (f"{first} decides the preprocessing: another file has another",)
        told = {name: value for name, value in vars(self).items() if value is not None}
        files = (*self.files, *other.files)
        return replace(other, **{**told, "files": files, "notes": (*notes, *other.notes)})


def read_beside(
    weights: Path, hugging_face: bool, metadata: Mapping[str, str] | None = None
) -> Beside:
    """Return what the files beside weights say.

    Args:
        weights: A file, or the folder that it lies in.
        hugging_face: Whether the tensors have Hugging Face's names, of which alone its
            ``config.json`` speaks.
        metadata: What the weights' own file says, as this project writes it; counts most.

    Raises:
        ValueError: If one of them says what no model has.
    """
    folder = weights if weights.is_dir() else weights.parent
    # A config.json beside weights of other names is of something else.
    model = _read(folder / HF_CONFIG, _hf_model) if hugging_face else Beside()
    hub = [model, _read(folder / HF_INPUT, _hf_input)]
    own = [_read_card(folder / CARD, weights), _read(folder / OPEN_CLIP_CONFIG, _open_clip)]
    order = [*hub, *own] if hugging_face else [*own, hub[1]]
    if metadata and CONFIG in metadata:
        with _blamed(weights):
            order.insert(0, _open_clip(parse_json(metadata[CONFIG])))
    found = Beside()
    for one in reversed(order):
        found = one.over(found)
    return found


def _read(path: Path, understood: Callable[[dict[str, Any]], Beside]) -> Beside:
    if not path.exists():
        return Beside()
    content = read_json(path)
    with _blamed(path):
        return replace(understood(content), files=(path,))


@contextlib.contextmanager
def _blamed(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _hf_model(config: dict[str, Any]) -> Beside:
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise ValueError(f"model_type is {kind!r:.80}; choices: 'clip'")
    vision, text = _hf_tower(config, "vision", 12), _hf_tower(config, "text", 8)
    activations = sorted({str(vision["hidden_act"]), str(text["hidden_act"])})
    if activations not in (["gelu"], ["quick_gelu"]):
        found = " and ".join(activations)
        raise ValueError(f"hidden_act is {found:.80}; choices: gelu, quick_gelu, in both towers")
    heads = (vision["num_attention_heads"], text["num_attention_heads"])
    if not all(_is_count(number) for number in heads):
        raise ValueError(f"num_attention_heads is a positive number, got {heads!r:.80}")
    quick_gelu = activations == ["quick_gelu"]
    return Beside(quick_gelu=quick_gelu, heads=Heads(image=heads[0], text=heads[1]))


def _hf_tower(config: dict[str, Any], name: str, heads: int) -> dict[str, Any]:
    """Return one tower's config; what transformers leaves out has its default."""
    default: dict[str, Any] = {"hidden_act": "quick_gelu", "num_attention_heads": heads}
    return (
        default | sub_object(config, f"{name}_config") | sub_object(config, f"{name}_config_dict")
    )


def _hf_input(config: dict[str, Any]) -> Beside:
    mean, std = config.get("image_mean"), config.get("image_std")
    if config.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    size = config.get("size")
    both = isinstance(size, dict) and {"height", "width"} <= size.keys()
    mode = "squash" if both and not config.get("do_center_crop", False) else "shortest"
    crop = config.get("crop_size", size)
    sides = [*crop.values()] if isinstance(crop, dict) else [crop]
    told, side = config.get("resample", 3), _side(sides[0]) if sides else None
    # Pillow has more; they change how images are resized, not whether the weights can be used.
    known = isinstance(told, int) and told in _RESAMPLING
    found = _preprocessing(mean, std, mode, _RESAMPLING[told if known else 3])
    notes = () if known else (f"resample {told!r:.40} is not known, bicubic is taken",)
    return Beside(preprocessing=found, image_size=side, notes=notes)


def _open_clip(config: dict[str, Any]) -> Beside:
    model, given = sub_object(config, "model_cfg"), sub_object(config, "preprocess_cfg")
    found = Beside()
    if given:
        mode, how = given.get("resize_mode", "shortest"), given.get("interpolation", "bicubic")
        how = "bicubic" if how == "random" else how
        found = Beside(preprocessing=_preprocessing(given.get("mean"), given.get("std"), mode, how))
    return _open_clip_model(model).over(found) if model else found


def _open_clip_model(model: dict[str, Any]) -> Beside:
    """Read an open_clip model config, which says all that it does not say by its defaults."""
    vision, text = sub_object(model, "vision_cfg"), sub_object(model, "text_cfg")
    quick_gelu = model.get("quick_gelu", False)
    heads, width = text.get("heads", 8), vision.get("head_width", HEAD_WIDTH)
    if not isinstance(quick_gelu, bool):
        raise ValueError(f"quick_gelu is true or false, got {quick_gelu!r:.80}")
    if not _is_count(heads) or not _is_count(width):
        raise ValueError(f"heads and head_width are positive, got {heads!r:.40} and {width!r:.40}")
    if text.get("pool_type", "argmax") != "argmax":
        raise ValueError(f"text_cfg.pool_type is argmax, got {text['pool_type']!r:.80}")
    return Beside(
        quick_gelu=quick_gelu,
        heads=Heads(width=width, text=heads),
        vision=_options(vision),
        image_size=_side(vision.get("image_size")),
    )


def _options(vision: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an image tower that are not open_clip's defaults.

    Raises:
        ValueError: If one is none of its choices.
    """
    for name, choices in VISION_OPTIONS.items():
        if vision.get(name, choices[0]) not in choices:
            listed = ", ".join(map(str, choices))
            raise ValueError(f"{name} is one of {listed}, got {vision[name]!r:.80}")
    return {
        name: vision[name]
        for name, choices in VISION_OPTIONS.items()
        if vision.get(name, choices[0]) != choices[0]
    }


def _card(card: dict[str, Any]) -> Beside:
    """Read the card of a checkpoint bundle."""
    config = sub_object(sub_object(card, "architecture"), "architecture")
    given, activation = sub_object(card, "preprocessing"), card.get("activation")
    if activation not in (*_ACTIVATIONS, None):
        raise ValueError(f"activation is one of {', '.join(_ACTIVATIONS)}, got {activation!r:.80}")
    found = Beside(quick_gelu=None if activation is None else _ACTIVATIONS[activation])
    if given:
        found = replace(
            found,
            image_size=_side(given.get("image_size")),
            preprocessing=_preprocessing(given.get("mean"), given.get("std"),
                                         given.get("resize_mode", "shortest"),
                                         given.get("interpolation", "bicubic")),
        )  # fmt: skip
    return found.over(_open_clip_model(config)) if config else found


def _read_card(path: Path, weights: Path) -> Beside:
    """Read a card, if it is that of a bundle that these weights are a file of."""
    try:
        card = read_json(path) if path.is_file() else {}
    except ValueError:  # somebody else's card, of something else
        card = {}
    if weights.name not in sub_object(card, "files"):
        return Beside()
    with _blamed(path):
        return replace(_card(card), files=(path,))


def _preprocessing(mean: Any, std: Any, mode: Any, interpolation: Any) -> Preprocessing:
    default = Preprocessing()
    return Preprocessing(
        default.mean if mean is None else mean,
        default.std if std is None else std,
        mode,
        interpolation,
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**20


def _side(value: Any) -> int | None:
    """Return the side of a model's images, where one number or two equal ones say it."""
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        value = value[0]
    return value if _is_count(value) else None
