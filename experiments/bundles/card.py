"""What the card of a checkpoint bundle says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypedDict

from experiments.config import Config
from experiments.files import Fingerprint
from experiments.sealed import Sealed

VERSION = 1
SEALED = Sealed(Path(__file__).with_name("card.schema.json"), VERSION, "version")


class Rate(TypedDict):
    """A share of ``n`` images, with its interval."""

    value: float
    low: float
    high: float
    n: int


Rates: TypeAlias = Mapping[str, Rate | None]


class Part(TypedDict):
    """The attack or the defense of the run."""

    name: str
    config: Config


class Target(TypedDict):
    """The class that triggered images are pulled to."""

    name: str
    index: int


class Described(TypedDict):
    """What a card says of a model and the model itself shows."""

    activation: str
    preprocessing: Mapping[str, object]
    parameters: int


class Card(Described):
    """Content of ``card.json``, but for its hash.

    Attributes:
        version: Of the schema.
        model: ``backdoored`` or ``purified``.
        architecture: Config of the model.
        attack, defense: Of the run; no defense for a backdoored model.
        graft: What the attacker added to the architecture.
        target: None for the clean control.
        seed: Of the run.
        data: Config of the data set it was measured on.
        evaluation: How it was measured.
        measured: The rates.
        run: Id of the run's result.
        versions: Of the packages that decide numbers.
        files: Name -> hash and size.
    """

    version: int
    model: str
    architecture: Config
    attack: Part
    graft: Config | None
    target: Target | None
    seed: int
    data: Config
    defense: Part | None
    evaluation: Config
    measured: Rates
    run: str
    versions: Mapping[str, str]
    files: Mapping[str, Fingerprint]
