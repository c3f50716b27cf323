"""Weights of one's own in a config: named by what they hold, not by where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.config import PATH, Config

_HASH = "sha256"


def with_weights(config: Config) -> Config:
    """Return a run's config whose models say what their files hold.

    A ``path`` stands in place of ``weights``, and its hash is what decides stages and results:
    another file there makes another run, the same file elsewhere the same one. A hash that is there
    already stays, so that a run whose stages are complete needs no file.

    Args:
        config: The resolved config.

    Raises:
        ValueError: If there are no weights.
    """
    return {**config, "model": _weighed(config["model"])}


def _weighed(model: Any) -> Any:
    if not isinstance(model, Mapping):
        return model
    teacher = {"teacher": _weighed(model["teacher"])} if model.get("teacher") else {}
    if model.get(PATH) is None:
        return {**model, **teacher}
    found = model.get(_HASH) or _content_hash(str(model[PATH]), model.get("open_clip_name"))
    return {**model, "weights": None, _HASH: found, **teacher}


def _content_hash(told: str, open_clip_name: str | None) -> str:
    from pathlib import Path

    from invertune.clip.files import content_hash

    path = Path(told).expanduser()
    if not path.is_dir():
        return content_hash(path)
    from invertune.clip.pretrained import usual_name  # which imports open_clip

    return content_hash(path, usual_name(open_clip_name))
