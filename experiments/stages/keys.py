"""What decides the content of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import Config, same_numbers
from experiments.files import digest
from experiments.stages.code import Code

if TYPE_CHECKING:
    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder

# Writes a stage's files: the experiment's parts, the inputs by their names, the folder.
Produce = Callable[["Parts", Mapping[str, "StageFolder"], Path], None]


@dataclass(frozen=True)
class StageKey:
    """All that decides what a stage makes.

    Attributes:
        name: Name of the stage.
        config: The stage's own part of the resolved config.
        inputs: Name of an input -> hash of the stage that is it.
        seed: Of every random draw.
        code: What `Code.versions` says of the code that makes it.
    """

    name: str
    config: object
    inputs: Mapping[str, str]
    seed: int
    code: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, object]:
        """The key as it stands in the manifest."""
        inputs, code = dict(sorted(self.inputs.items())), dict(sorted(self.code.items()))
        return {"stage": self.name, "code": code, "config": self.config,
                "inputs": inputs, "seed": self.seed}  # fmt: skip

    @property
    def hash(self) -> str:
        """The SHA-256 of the key, the same for 0 and 0.0."""
        return digest(same_numbers(self.plain))

    @property
    def folder_name(self) -> str:
        """The name of the stage's folder."""
        return f"{self.name}-{self.hash[:16]}"


@dataclass(frozen=True)
class Stage:
    """A stage of a run: what decides it, what it is made of, and how.

    Attributes:
        role: What it is in the run, such as ``evaluate/clean``.
        key: All that decides what it makes.
        inputs: Name of an input -> the stage that is it.
        produce: Writes its files; None for a stage that leaves none.
        trains: Whether all processes of a run make it together, where there are several; each has
            a folder of its own then, and the first process' is kept.
    """

    role: str
    key: StageKey
    inputs: Mapping[str, Stage]
    produce: Produce | None
    trains: bool = False


@dataclass(frozen=True)
class Planner:
    """Makes stages out of a config; what they depend on has one form for all of them.

    Attributes:
        config: The resolved config of the run.
        code: The code that is there.
    """

    config: Config
    code: Code

    def stage(
        self, role: str, config: Config, inputs: Mapping[str, Stage], produce: Produce | None,
        *, name: str | None = None, seed: int | None = None, trains: bool = False,
    ) -> Stage:  # fmt: skip
        """Return a stage.

        Args:
            role: Of the stage in the run.
            config: Its own part of the config.
            inputs: Name of an input -> the stage that is it.
            produce: Writes its files; None for a stage that leaves none.
            name: Of the stage, if it is not the role.
            seed: Of its random draws, if it is not the run's.
            trains: Whether all processes of a run make it together.
        """
        own = [] if produce is None else [produce.__module__]
        key = StageKey(
            name or role,
            config,
            {input_name: stage.key.hash for input_name, stage in inputs.items()},
            self.config["seed"] if seed is None else seed,
            self.code.versions([*own, *targets(config)]),
        )
        return Stage(role, key, inputs, produce, trains)


def targets(config: object) -> Iterator[str]:
    """Yield the names of all classes that a config names."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from targets(value)
