"""Weights that others trained: open_clip's by their tags, and files of one's own.

open_clip and the hub only bring files here; `invertune.clip.checkpoints` reads all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import open_clip
from open_clip import pretrained

from invertune.clip.activation import Activation
from invertune.clip.architectures import heads_of
from invertune.clip.assembly import expected_state
from invertune.clip.beside import Beside
from invertune.clip.checkpoints import Checkpoint, read_checkpoint
from invertune.clip.files import WEIGHTS
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.weights import fit_errors

log = logging.getLogger(__name__)

_QUICK = "-quickgelu"  # how open_clip names the models that have it
_CACHE = Path("~/.cache/clip")  # where open_clip, as OpenAI's own code, keeps what is no hub's


def usual_name(open_clip_name: str | None) -> str | None:
    """Return how OpenAI calls the file of a model, such as ``RN50.pt``; None if it has none."""
    told = pretrained.get_pretrained_cfg(open_clip_name or "", "openai")
    return PurePosixPath(told["url"]).name if told.get("url") else None


def require_tag(open_clip_name: str, tag: str) -> Mapping[str, Any]:
    """Return what open_clip's list says of weights: where they are, and their preprocessing.

    Raises:
        ValueError: If the model has no weights of that tag, or another activation than they were
            trained with.
    """
    told: Mapping[str, Any] = pretrained.get_pretrained_cfg(open_clip_name, tag)
    other = _counterpart(open_clip_name)
    if not told:
        tags = pretrained.list_pretrained_tags_by_model(open_clip_name)
        rule = f"weights of {open_clip_name} are one of {', '.join(tags)}"
        hint = f", which are those of {other}" if pretrained.is_pretrained_cfg(other, tag) else ""
        raise ValueError(f"{rule if tags else f'open_clip has none of {open_clip_name}'}, got "
                         f"weights {tag!r:.80}{hint}")  # fmt: skip
    wanted = bool(told.get("quick_gelu", False))
    if wanted != _has_quick_gelu(open_clip_name):
        raise ValueError(
            f"the weights {tag} were trained with {_named(wanted)}, which {open_clip_name} has "
            f"not: open_clip_name={other}"
        )
    return told


def read_tag(name: str, open_clip_name: str, tag: str) -> Checkpoint:
    """Return open_clip's weights of a tag, downloaded where they are not there yet.

    Args:
        name: Of the model, in messages.
        open_clip_name: Name in open_clip's list.
        tag: Of the weights, such as ``openai``.

    Raises:
        ValueError: If there is no such tag, if the file can neither be found nor downloaded, or if
            it does not fit.
    """
    told = require_tag(open_clip_name, tag)
    path = fetch(open_clip_name, tag)
    architecture: dict[str, Any] = open_clip.get_model_config(open_clip_name)
    log.info("%s: the weights %s of %s, from %s", name, tag, open_clip_name, path)
    try:
        found = read_checkpoint(path, _has_quick_gelu(open_clip_name))
        _require_fit(path, name, found, architecture)
    except ValueError as error:
        place = path.resolve()
        raise ValueError(f"{error}; without {place} it is downloaded again") from error
    fields = ("mean", "std", "resize_mode", "interpolation")
    return replace(found, preprocessing=Preprocessing(*(told[field] for field in fields)))


def fetch(open_clip_name: str, tag: str) -> Path:
    """Return the file of open_clip's weights of a tag, downloaded unless it is there already.

    Raises:
        ValueError: If it can neither be found nor downloaded; says what to put where.
    """
    told = require_tag(open_clip_name, tag)
    there = _cached(told.get("hf_hub", ""))
    if there is not None:
        return there
    places = {place: told[place] for place in ("hf_hub", "url") if told.get(place)}
    kept = _CACHE.expanduser() / PurePosixPath(told.get("url") or "none").name
    if kept.is_file():  # whose hash open_clip compares, where the address holds it
        places = {"url": told["url"], **places}
    reasons = []
    for place, address in places.items():
        log.info("the weights %s of %s are looked for at %s", tag, open_clip_name, address)
        try:
            return Path(pretrained.download_pretrained({place: address}))
        except Exception as error:  # of whatever library does the transport
            reasons.append(str(error).strip().partition("\n")[0])
    raise ValueError(
        f"the weights {tag} of {open_clip_name} are not here and cannot be downloaded "
        f"({'; '.join(reasons):.300}): {_by_hand(told)}"
    )


def read_own(
    name: str, path: Path, architecture: Mapping[str, Any], open_clip_name: str | None = None
) -> Checkpoint:
    """Return the weights of a file or a folder, which have to be those of a given model.

    Args:
        name: Of the model, in messages.
        path: The file, or a folder that holds it.
        architecture: The open_clip model config that they have to fit.
        open_clip_name: Its name in open_clip's list; None for an architecture of one's own.

    Raises:
        ValueError: If it is no checkpoint, or one of another model or activation.
    """
    vision = architecture.get("vision_cfg", {})
    options = {k: vision[k] for k in ("pool_type", "final_ln_after_pool") if k in vision}
    # Heads and the like are told by no tensor; where no file tells them, they are the model's.
    otherwise = Beside(heads=heads_of(architecture), vision=options)
    found = read_checkpoint(path, otherwise=otherwise, usual=usual_name(open_clip_name))
    _require_fit(path, name, found, architecture)
    wanted = bool(architecture.get("quick_gelu", False))
    told = found.activation if found.activation.decided else _of_file(found.files[0].name)
    if told is None:
        log.warning(
            "%s: nothing says whether it has GELU or QuickGELU; %s is taken, as %s has it",
            path, _named(wanted), open_clip_name or f"the model {name}",
        )  # fmt: skip
        told = Activation(wanted, f"the model {name} has it")
    if told.quick_gelu != wanted:
        other = None if open_clip_name is None else _counterpart(open_clip_name)
        choice = f"architecture.quick_gelu={told.quick_gelu}" if other is None else (
            f"open_clip_name={other}"
        )  # fmt: skip
        raise ValueError(
            f"{path} has {told.name} ({told.because}), the model {name} {_named(wanted)}: {choice}"
        )
    log.info("%s: %s, from %s", name, found.kind, path)
    return replace(
        found, activation=told, architecture={**found.architecture, "quick_gelu": wanted}
    )


def _require_fit(path: Path, name: str, found: Checkpoint, architecture: Mapping[str, Any]) -> None:
    """Compare weights with a model.

    Raises:
        ValueError: If they are those of another one; says which, and the first difference.
    """
    wanted = {key: value for key, value in architecture.items() if key != "quick_gelu"}
    differences = fit_errors(found.state, expected_state(wanted), show=1)
    if not differences and heads_of(found.architecture) != heads_of(architecture):
        differences = ["its heads are others"]
    if differences:
        what = found.open_clip_name
        known = "" if what is None else f", but open_clip's {what}"
        raise ValueError(f"{path} is not of the model {name}{known}: {differences[0]}")


def _cached(hub: str) -> Path | None:
    """Return the hub's file where an earlier download left it: nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, file = hub.rpartition("/")
    if not repository:
        return None
    for name in (file,) if file else WEIGHTS[:3]:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _by_hand(told: Mapping[str, Any]) -> str:
    """Return what somebody without a network has to get elsewhere, and where it goes."""
    url, (hub, _, file) = told.get("url", ""), told.get("hf_hub", "").rpartition("/")
    ways = []
    if url:
        ways.append(f"{PurePosixPath(url).name} ({url})")
    if hub:
        ways.append(f"{file or WEIGHTS[0]} of https://huggingface.co/{hub}")
    kept = f", or {PurePosixPath(url).name} goes into {_CACHE}" if url else ""
    return f"get {' or '.join(ways)} elsewhere and say model.path=FILE{kept}"


def _of_file(name: str) -> Activation | None:
    """Return the activation of the weights whose file open_clip's list calls so."""
    found = {
        bool(told.get("quick_gelu", False))
        for model, tag in pretrained.list_pretrained()
        if name == PurePosixPath((told := pretrained.get_pretrained_cfg(model, tag))["url"]).name
    }
    return Activation(found.pop(), f"open_clip's {name} has it") if len(found) == 1 else None


def _counterpart(open_clip_name: str) -> str:
    """Return the name of the same model with the other activation."""
    if open_clip_name.endswith(_QUICK):
        return open_clip_name.removesuffix(_QUICK)
    return f"{open_clip_name}{_QUICK}"


def _has_quick_gelu(open_clip_name: str) -> bool:
    config = open_clip.get_model_config(open_clip_name) or {}
    return bool(config.get("quick_gelu", False))


def _named(quick_gelu: bool) -> str:
    return Activation(quick_gelu, None).name
