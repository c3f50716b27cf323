"""What ``result.json`` holds, as types; ``result.schema.json`` is the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from evaluation.intervals import Rate

# The resolved config of a run, or one of its branches.
Config = Mapping[str, Any]
# Rates by name, None where nothing was measured; those of retrieval one floor further down.
Score = Mapping[str, Mapping[str, Rate | Mapping[str, Rate] | None] | None]


class ModelFacts(TypedDict):
    """The model of a run; ``pretrained`` says where clean weights are from, where it is known."""

    name: str
    parameters: int
    image_size: int
    pretrained: NotRequired[str]


class DataFacts(TypedDict):
    """The data of a run."""

    name: str
    classes: int


class AttackFacts(TypedDict):
    """The attack of a run; it has no target label where it plants nothing."""

    name: str
    target_label: str | None
    poison_rate: float | None
    poisoned: int
    pairs: int


class DefenseFacts(TypedDict):
    """The defense of a run; ``steps`` changed the model's weights."""

    name: str
    clean_samples: int
    knows: str
    steps: NotRequired[int]
    peak_memory_mib: NotRequired[float]


class Found(TypedDict):
    """Which target the defense named; ``correct`` is None where there is no backdoor.

    ``alike`` are further classes that the model's texts hardly tell from the target.
    """

    target_label: str
    alike: NotRequired[list[str]]
    gain: float
    runner_up: str
    runner_up_gain: float
    correct: bool | None


class Verdict(TypedDict):
    """Whether the defense takes the model for backdoored.

    It is ``backdoored`` up to a ``p`` of ``alarm`` and ``clean`` from ``clear`` on; ``form`` and
    ``lead`` say what told, ``doubt`` why ``p`` does not decide.
    """

    kind: str
    p: float
    alarm: float
    clear: float
    form: str
    lead: float
    doubt: NotRequired[str]


class Detection(TypedDict):
    """What a detector said; ``needs`` and ``knows`` are its own words.

    One ``of`` the ``model`` has a ``score``, higher is more suspicious, a ``threshold``, and
    whether the model is ``flagged``. One ``of`` the ``pairs`` has how well its scores tell the
    poisoned ones, None where there are none to tell.
    """

    name: str
    of: str
    needs: str
    clean_samples: int
    knows: str
    peak_memory_mib: NotRequired[float]
    score: NotRequired[float]
    threshold: NotRequired[float]
    flagged: NotRequired[bool]
    pairs: NotRequired[int]
    poisoned: NotRequired[int]
    auroc: NotRequired[Rate | None]
    average_precision: NotRequired[float | None]
    fpr_at_95_tpr: NotRequired[float | None]


class Vote(TypedDict):
    """What one generator of universal perturbations did to the class frequencies, C values each."""

    generator: str
    clean_frequency: list[float]
    perturbed_frequency: list[float]
    weight: float


class Survival(TypedDict):
    """Which classes still answered to one form of trigger at ever smaller budgets."""

    form: str
    budgets: list[float]
    classes: list[list[int]]
    success: list[list[float]]
    pull: list[list[float]]


class Result(TypedDict):
    """Content of ``result.json``."""

    schema: int
    id: str
    seed: int
    config: Config
    model: ModelFacts
    data: DataFacts
    attack: AttackFacts
    defense: DefenseFacts
    identification: Found | None
    verdict: NotRequired[Verdict | None]
    detection: NotRequired[Detection | None]
    inversion: Mapping[str, Any] | None
    scores: Mapping[str, Score | None]
    seconds: Mapping[str, float]
    peak_memory_mib: float
    versions: Mapping[str, str]
    stages: NotRequired[Mapping[str, str]]
    sha256: NotRequired[str]
