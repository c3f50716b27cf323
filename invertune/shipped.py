"""Clean models that come with the package, each for exactly one model, data set and seed.

A file holds half-precision weights and, of the token embeddings, only the rows that pre-training
moved: all others are as the seed made them. Its card beside it says what it is of. Nothing here
imports torch before weights are read or written: a sweep asks for such files while it is planned.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from invertune.clip.models import CLIP

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "minis"
VERSION = 1
_TABLE, _ROWS = "token_embedding.weight", "token_embedding.rows"
_SWITCH = "shipped"  # of a model's config: whether such a file may be taken
_EXACT = ("running_var",)  # small ones would lose their digits


@dataclass(frozen=True)
class Shipped:
    """A file of weights and what its card says of it.

    Attributes:
        path: The safetensors file, whose hash is the card's.
        card: ``model``, ``data``, ``seed``, ``command``, ``ca``, ``losses``, ``sha256``, ...
    """

    path: Path
    card: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of the weights."""
        return str(self.card["sha256"])

    @property
    def losses(self) -> list[float]:
        """The loss of every step of its pre-training."""
        return [float(loss) for loss in self.card["losses"]]

    def describe(self) -> str:
        """Return one line for those who wait for a pre-training."""
        return (
            f"{self.card['model']['name']} comes with the package (seed {self.card['seed']}, CA "
            f"{self.card['ca']['value']:.1%}); model.{_SWITCH}=false trains it here"
        )

    def load(self, model: CLIP) -> None:
        """Read the weights into a model that is as its config and seed built it.

        Raises:
            ValueError: If they do not fit it.
        """
        import safetensors.torch

        tensors = dict(safetensors.torch.load_file(self.path).items())
        rows, own = tensors.pop(_ROWS, None), model.clip.state_dict()
        try:
            table = own[_TABLE].clone()
            table[rows] = tensors[_TABLE].to(table)
            tensors[_TABLE] = table
            model.clip.load_state_dict({name: t.to(own[name]) for name, t in tensors.items()})
        except (KeyError, IndexError, RuntimeError, TypeError) as error:
            raise ValueError(f"{self.path} does not fit {model.name}: {error}") from error


def find(
    model: Mapping[str, Any], data: Mapping[str, Any], seed: int, folder: Path = FOLDER
) -> Shipped | None:
    """Return the file of exactly this model, data set and seed; None if there is none.

    A file that is not as its card has it is named in a warning.

    Args:
        model: The resolved ``model`` part of a config.
        data: The ``data`` part.
        seed: Of the pre-training.
        folder: Of the files.
    """
    wanted = {"model": without_switch(model), "data": data, "seed": seed}
    for path in sorted(folder.glob("*.json")):
        card = _read(path)
        if card is None or not all(_same(card.get(key), value) for key, value in wanted.items()):
            continue
        weights = path.with_suffix(".safetensors")
        if not weights.is_file() or _sha256(weights) != card.get("sha256"):
            log.warning("%s is not the file that its card describes; the model is trained", weights)
            return None
        return Shipped(weights, card)
    return None


def without_switch(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's config without the field that allows such a file, its teacher's too."""
    return {
        name: without_switch(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name != _SWITCH
    }


def pack(model: CLIP, tokens: Tensor, path: Path) -> str:
    """Write a model's weights in the small form and return their SHA-256.

    Args:
        model: As pre-training left it.
        tokens: All token ids that pre-training saw, of any shape.
        path: The safetensors file.
    """
    import safetensors.torch
    import torch

    rows = torch.unique(tokens)
    state = {name: value.detach().cpu() for name, value in model.clip.state_dict().items()}
    state[_TABLE] = state[_TABLE][rows]
    small = {
        name: value.half() if value.is_floating_point() and not name.endswith(_EXACT) else value
        for name, value in state.items()
    }
    tensors = {name: value.contiguous() for name, value in small.items()}
    safetensors.torch.save_file({**tensors, _ROWS: rows.int()}, path)
    return _sha256(path)


def _same(one: object, other: object) -> bool:
    """Return whether two values of configs are equal: 1 is not true, and classes have an order."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _read(path: Path) -> dict[str, Any] | None:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    return card if isinstance(card, dict) and card.get("version") == VERSION else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
