"""Checkpoint bundles: one folder that says what its model is and how it was measured.

Somebody else can measure it again. A bundle may come from a stranger: nothing in it is run, weights
are safetensors, and the classes that its card names are this project's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from experiments.bundles.card import SEALED, Card
from experiments.bundles.rebuild import build, build_model, describe_model
from experiments.errors import is_user_error, one_line
from experiments.files import Fingerprint, fingerprint
from experiments.results.measures import lookup

if TYPE_CHECKING:
    from attacks.triggers import Trigger
    from experiments.config import Config
    from invertune.clip.models import CLIP
    from invertune.data.bundle import DataBundle

CARD, WEIGHTS = "card.json", "weights.safetensors"
TRIGGER, TENSORS = "trigger.json", "trigger.safetensors"
FILES = (WEIGHTS, TRIGGER, TENSORS)
_MOST_IMAGES, _MOST_TEXTS = 1_000_000, 200_000
_LARGEST_CARD = 2**20  # bytes


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that its card lists.

    Attributes:
        folder: Where it is.
        card: The content of ``card.json``.
    """

    folder: Path
    card: Card

    def model(self) -> CLIP:
        """Return the model in evaluation mode, built from the card and the weights alone.

        Raises:
            ValueError: If the weights do not fit the architecture, or the model is not what the
                card says of it.
        """
        with self.blamed("architecture"):
            config, addition = self.card["architecture"], self.card["graft"]
            model = build_model(config, addition, self.folder / WEIGHTS, self.card["seed"])
        claimed: Mapping[str, object] = {**self.card}
        for name, found in describe_model(model).items():
            if found != claimed[name]:
                raise ValueError(
                    f"{self.folder / CARD}: {name} is {claimed[name]}, but of the model {found}"
                )
        return model

    def trigger(self) -> Trigger | None:
        """Return the trigger; None for the clean control.

        Raises:
            ValueError: If its files are not those of a trigger.
        """
        from attacks.triggers import load_trigger

        if TRIGGER not in self.card["files"]:
            return None
        with self.blamed("trigger"):
            return load_trigger(self.folder)

    def data(self, own: Config | None = None) -> DataBundle:
        """Return the data set that the model was measured on.

        Args:
            own: Config of one's own data, for a card that names files which lie elsewhere.

        Raises:
            ValueError: If it is no data set, or has no such target label, or if the card's are
                files and ``own`` is None.
        """
        from invertune.data.bundle import DataBundle
        from invertune.data.composed import ComposedData

        with self.blamed("data"):
            described = build(own or self.card["data"], "data", "invertune.data.")
            # A stranger's card says neither what is read here nor where something is written.
            if own is None and isinstance(described, ComposedData):
                raise ValueError(
                    "they are files of whoever made it: say where yours are, such as data=cc3m "
                    "data.zero_shot.path=..."
                )
            if own is None:
                self._check_images()
            found = described.load()
        if not isinstance(found, DataBundle):
            raise ValueError(f"{self.folder / CARD}: data gives no data set, but {found!r:.80}")
        target = self.card["target"]
        if target is not None and found.label_of(target["name"]) != target["index"]:
            raise ValueError(
                f"{self.folder / CARD}: target {target['name']!r} has the index "
                f"{target['index']}, in the data it is {found.label_of(target['name'])}"
            )
        return found

    def _check_images(self) -> None:
        """Look at the number and size of the images, before they are drawn.

        Raises:
            ValueError: If they are not those of the rates and of the model.
        """
        rate, config = self.card["measured"]["ca"], self.card["data"]
        count, side = lookup(config, "sizes/zero_shot"), config.get("image_size")
        own = self.card["preprocessing"]["image_size"]
        classes, templates = (config.get(name) or [] for name in ("classes", "templates"))
        if len(classes) * len(templates) > _MOST_TEXTS:
            raise ValueError(f"{len(classes)} classes in {len(templates)} templates are too many")
        if rate is not None and count is not None and count != rate["n"]:
            raise ValueError(f"zero_shot has {count!r:.40} images, the rates are of {rate['n']}")
        if rate is not None and rate["n"] > _MOST_IMAGES:
            raise ValueError(f"at most {_MOST_IMAGES} images are measured, got {rate['n']}")
        if side is not None and side != own:
            raise ValueError(f"image_size is {side!r:.40}, the model takes {own!r:.40}")

    @contextlib.contextmanager
    def blamed(self, part: str) -> Iterator[None]:
        """Name a part of the card where a library stumbles over what it says."""
        try:
            yield
        except Exception as error:
            said = one_line(error)
            if isinstance(error, OSError | MemoryError) or said.startswith(str(self.folder)):
                raise
            if not is_user_error(error):
                said = f"{type(error).__name__}: {said}"
            raise ValueError(f"{self.folder / CARD}: its {part} cannot be used: {said}") from error


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder, after a look at version, seal, and every file's hash.

    Raises:
        ValueError: If there is none, or one of them is not as it has to be.
    """
    path = folder / CARD
    if not path.is_file():
        missing = f"it has no {CARD}" if folder.is_dir() else "there is no such folder"
        raise ValueError(f"{folder} is no checkpoint bundle: {missing}")
    bundle = Bundle(folder, _read_card(path))
    for name, noted in bundle.card["files"].items():
        _check_file(folder / name, noted)
    for name in FILES:
        if name not in bundle.card["files"] and (folder / name).exists():
            raise ValueError(f"{folder / name} does not belong here: {CARD} does not list it")
    return bundle


def _read_card(path: Path) -> Card:
    try:
        if path.stat().st_size > _LARGEST_CARD:
            raise ValueError(f"it is larger than {_LARGEST_CARD >> 20} MiB")
        card = SEALED.read(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return cast(Card, card)


def _check_file(path: Path, noted: Fingerprint) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {CARD} lists it")
    found = fingerprint(path)
    if found["bytes"] != noted["bytes"]:
        raise ValueError(f"{path} has {found['bytes']} bytes, {CARD} says {noted['bytes']}")
    if found["sha256"] != noted["sha256"]:
        raise ValueError(
            f"{path} has the SHA-256 {found['sha256'][:12]}..., "
            f"{CARD} says {noted['sha256'][:12]}..."
        )
