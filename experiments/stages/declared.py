"""What an attack or a defense says of its stages: ``_stages_`` in its YAML.

Keys must be known from the config alone, before any class is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from experiments.config import STAGES, Config

_FROM = ("model", "data")


@dataclass(frozen=True)
class AttackStages:
    """The stages of an attack beside the implant.

    Attributes:
        trigger: Fields of the attack that decide the trigger it makes before the implant, which is
            then a stage of its own; none for an attack that has its trigger, or learns it.
        trigger_from: ``model``, or ``data`` where the trigger does not depend on the clean model:
            then it is made once for all models and seeds.
    """

    trigger: tuple[str, ...] = ()
    trigger_from: str = "model"

    def __post_init__(self) -> None:
        if self.trigger_from not in _FROM:
            choices = ", ".join(_FROM)
            raise ValueError(
                f"attack.{STAGES}.trigger_from is one of {choices}, got {self.trigger_from!r}"
            )


@dataclass(frozen=True)
class DefenseStages:
    """The stages of a defense beside the repair.

    Attributes:
        search: Fields that decide what it finds before it repairs, which is then a stage of its
            own, kept for all ways to repair; none for a defense that repairs at once.
        repairs: Whether it changes the model; else its score is the backdoored model's.
    """

    search: tuple[str, ...] = ()
    repairs: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.repairs, bool):
            raise ValueError(f"defense.{STAGES}.repairs is true or false, got {self.repairs!r}")


def attack_stages(config: Config) -> AttackStages:
    """Return what the attack of a config says.

    Raises:
        ValueError: If it names a stage or a field that there is not.
    """
    said = _said(config, "attack", AttackStages)
    own = _fields(config, "attack", "trigger", said.get("trigger"))
    return AttackStages(own, said.get("trigger_from", "model"))


def defense_stages(config: Config) -> DefenseStages:
    """Return what the defense of a config says.

    Raises:
        ValueError: If it names a stage or a field that there is not.
    """
    said = _said(config, "defense", DefenseStages)
    own = _fields(config, "defense", "search", said.get("search"))
    return DefenseStages(own, said.get("repairs", True))


def _said(config: Config, group: str, kind: type) -> Config:
    said, choices = config[group].get(STAGES), [field.name for field in fields(kind)]
    if said is None:
        return {}
    if not isinstance(said, Mapping) or not all(name in choices for name in said):
        raise ValueError(f"{group}.{STAGES} has the fields {', '.join(choices)}, got {said!r}")
    return said


def _fields(config: Config, group: str, stage: str, names: object) -> tuple[str, ...]:
    """Return the fields that decide a stage, which are some of the part's own."""
    own = [str(name) for name in config[group] if not str(name).startswith("_")]
    found = list(names) if isinstance(names, list | tuple) else [names]
    wrong = [name for name in found if name not in own]
    if names is not None and wrong:
        raise ValueError(
            f"{group}.{STAGES}.{stage} is a list of fields ({', '.join(own)}), got {wrong[0]!r}"
        )
    return () if names is None else tuple(map(str, found))
