"""Models and data sets built from the configs in a card, which may come from a stranger."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.bundles.card import Described
from experiments.config import Config, class_fields

if TYPE_CHECKING:
    from invertune.clip.models import CLIP
    from invertune.clip.spec import ModelSpec

_PACKAGES = ("attacks", "invertune")
# What open_clip fetches from elsewhere when a model config asks for it.
_FETCHED = ("hf_", "timm_")
_LARGEST_SIDE = 4096  # pixels
_LEAST_ROOM = 2**24  # numbers beside the weights, such as a mask of attention


def model_config(config: Config) -> Config:
    """Return a model's config without how it was trained, which nothing here does again."""
    return {name: value for name, value in config.items() if name not in ("pretrain", "teacher")}


def build(config: Config, place: str, home: str = "") -> Any:
    """Return what a config describes.

    Args:
        config: Its ``_target_`` names a class, its other fields are that class's.
        place: Name of the config in messages.
        home: What the names of its classes begin with.

    Raises:
        ValueError: As `check_config` does.
    """
    from hydra.utils import instantiate

    check_config(config, place, home)
    return instantiate(class_fields(config), _convert_="all")


def build_model(config: Config, addition: Config | None, weights: Path, seed: int) -> CLIP:
    """Return a model with given weights, in evaluation mode; no other weights are fetched.

    Args:
        config: The resolved ``model`` part of a run's config.
        addition: What an attacker added to the architecture, for `attacks.graft`.
        weights: File of `invertune.clip.weights.save_weights`.
        seed: Decides what the weights then overwrite.

    Raises:
        ValueError: If the config is no model's, or the weights do not fit it.
    """
    from attacks.graft import graft
    from invertune.clip.spec import ModelSpec
    from invertune.clip.weights import load_weights

    _check_addition(addition)
    spec = build(model_config(config), "architecture", "invertune.clip.")
    if not isinstance(spec, ModelSpec):
        raise ValueError(f"architecture is a ModelSpec, got {config['_target_']!r}")
    _check_size(_architecture(spec), weights)
    return load_weights(graft(spec.untrained(seed), addition), weights).eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)  # that weights are random, as they shall be
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _architecture(spec: ModelSpec) -> Config:
    """Return the open_clip config of a model.

    Raises:
        ValueError: If open_clip has no such model, or would fetch a part of it from elsewhere.
    """
    import open_clip

    known = spec.open_clip_name
    if known is None:
        return dict(spec.architecture)
    if known not in open_clip.list_models():
        raise ValueError(f"open_clip_name is one of open_clip.list_models(), got {known!r:.80}")
    config: Config = open_clip.get_model_config(known)
    check_config(config, f"open_clip_name {known}")
    return config


def _check_size(config: Config, weights: Path) -> None:
    """Compare a model with the file of its weights, before any memory is taken for it.

    Raises:
        ValueError: If it has more layers or more numbers than the file can hold.
    """
    import open_clip
    import torch

    from invertune.clip.weights import count_tensors

    held, tensors = weights.stat().st_size, count_tensors(weights)
    towers = [config.get(tower) or {} for tower in ("vision_cfg", "text_cfg")]
    layers = [layer for tower in towers for layer in _listed(tower.get("layers", 0))]
    counts = all(type(count) is int and count >= 0 for count in layers)
    if not counts or sum(layers) > tensors:
        raise ValueError(
            f"layers {layers!r:.80} are more than the {tensors} tensors of its weights"
        )
    sides = _listed(towers[0].get("image_size", 0))
    if any(not isinstance(side, int) or side > _LARGEST_SIDE for side in sides):
        raise ValueError(f"image_size is at most {_LARGEST_SIDE} pixels, got {sides!r:.80}")
    with torch.device("meta"), _quiet():  # shapes without memory
        built = open_clip.CLIP(**config)
    numbers = sum(tensor.numel() for tensor in (*built.parameters(), *built.buffers()))
    if numbers > held + _LEAST_ROOM:
        raise ValueError(
            f"its {numbers:,} numbers are more than {weights.name}, of {held:,} bytes, holds"
        )


def _check_addition(addition: Config | None) -> None:
    """Look at the sizes of what an attacker added, before any memory is taken for it.

    Raises:
        ValueError: If one is larger than any such network's.
    """
    for name, value in (addition or {}).items():
        if isinstance(value, int) and abs(value) > _LARGEST_SIDE:
            raise ValueError(f"graft.{name} is at most {_LARGEST_SIDE}, got {value!r:.40}")


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def describe_model(model: CLIP) -> Described:
    """Return what a card says of a model and the model itself shows."""
    from open_clip.transformer import QuickGELU

    quick = any(isinstance(module, QuickGELU) for module in model.clip.modules())
    return {
        "activation": "QuickGELU" if quick else "GELU",
        "preprocessing": {
            "image_size": model.image_size,
            "pixels": [0, 1],
            "mean": model.mean.flatten().tolist(),
            "std": model.std.flatten().tolist(),
        },
        "parameters": model.parameter_count,
    }


def check_config(config: object, place: str, home: str = "") -> None:
    """Look for what a config of a stranger must not make this program do.

    Raises:
        ValueError: If it names a class from elsewhere, a model of another library, which open_clip
            would fetch, or a value outside itself.
    """
    if isinstance(config, list):
        config = dict(enumerate(config))
    for key, value in config.items() if isinstance(config, Mapping) else ():
        here = f"{place}.{key}"
        if key == "_target_" and not (str(value).startswith(home) and _is_own_class(value)):
            homes = home.rstrip(".") or " or ".join(_PACKAGES)
            raise ValueError(f"{here} is a class of {homes}, got {value!r:.80}")
        if str(key).startswith(_FETCHED) and value:
            raise ValueError(f"{here} is not for models of open_clip's own parts, got {value!r}")
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{here} is a plain value, got {value!r}")
        check_config(value, here, home)


def _is_own_class(target: object) -> bool:
    """Return whether a class is named where it is defined or exported, in one of the packages."""
    module, _, name = str(target).rpartition(".")
    kind = None
    if module.partition(".")[0] in _PACKAGES:
        with contextlib.suppress(ImportError):
            kind = getattr(importlib.import_module(module), name, None)
    # A module also holds what it imports.
    return isinstance(kind, type) and kind.__module__.partition(".")[0] in _PACKAGES
