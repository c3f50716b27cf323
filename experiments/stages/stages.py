"""The stages of an experiment: one list, which says what decides each, and the loop over it.

A stage's key holds its own part of the config, the code that makes it and the keys of its inputs,
nothing else: a sweep over ten defenses pre-trains, attacks and evaluates the same model once.
Models go from stage to stage through files only, so that an interrupted run continues with exactly
what it had.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import Config
from experiments.names import runs_folder
from experiments.stages import (
    detect,
    evaluate,
    implant,
    inspect,
    pretrain,
    purify,
    search,
    trigger,
)
from experiments.stages.code import Code, installed
from experiments.stages.declared import defense_stages
from experiments.stages.keys import Planner, Stage, StageKey
from experiments.stages.parts import Parts
from experiments.stages.store import StageFolder, StageStore
from experiments.stages.targets import with_target
from experiments.stages.weighed import with_weights

if TYPE_CHECKING:
    from experiments.stages.team import Team

_END = "end"
_VISIBLE = 60.0  # seconds until every machine sees what one of them wrote


def list_stages(config: Config, code: Code | None = None) -> list[Stage]:
    """Return the stages that a config asks for, each after its inputs.

    Args:
        config: The resolved config.
        code: What makes them; that of this installation if None.

    Raises:
        ValueError: If a method says something of its stages that cannot be.
    """
    config = with_weights(with_target(config))
    planner = Planner(config, installed() if code is None else code)
    clean = pretrain.stage(planner)
    made = trigger.stage(planner, clean)
    backdoored = implant.stage(planner, clean, made)
    found = search.stage(planner, backdoored)
    purified = purify.stage(planner, backdoored, found)
    repaired = purified if defense_stages(config).repairs else backdoored
    stages = [
        clean,
        made,
        backdoored,
        found,
        purified,
        evaluate.stage(planner, "clean", clean, backdoored),
        evaluate.stage(planner, "backdoored", backdoored, backdoored),
        evaluate.stage(planner, "purified", repaired, backdoored),
        inspect.stage(planner, purified, backdoored),
        detect.stage(planner, backdoored),
    ]
    return [stage for stage in stages if stage is not None]


class Stages:
    """Makes what a config asks for, and skips what is there already.

    A run whose stages are all complete takes a second: nothing heavy is imported for it.

    Attributes:
        parts: What the stages are made with.
        stages: The list.
        store: Where the stages are.
    """

    def __init__(self, config: Config, team: Team | None = None) -> None:
        self.parts = Parts(config, team)
        self.stages = list_stages(config)
        self.store = StageStore(runs_folder(config["runs_dir"]))
        self._made: dict[str, StageFolder] = {}
        self._calls = 0

    def close(self) -> None:
        """Give back the GPU, if one was leased."""
        self.parts.close()

    def roles(self) -> dict[str, StageKey]:
        """Return the keys of all stages that leave a folder, by their roles in the run."""
        return {stage.role: stage.key for stage in self.stages if stage.produce is not None}

    def check(self) -> None:
        """Find what is wrong with the config before the long work; free if all stages are there.

        Raises:
            ValueError: If a value breaks its rule.
            OSError: If the folder of runs cannot be written.
        """
        keys = self.roles()
        if all(self.store.has(key) for key in keys.values()):
            return
        implants = not self.store.has(keys["implant"])
        if implants:
            implant.check_model(self.parts)
        self.parts.check()
        search.check(self.parts)
        if not self.store.has(keys["purify"]):
            purify.check(self.parts)
        detect.check(self.parts)
        if implants:
            with self.parts.execution(together=True).used():
                implant.check(self.parts)
        self.store.check_writable()
        if implants:
            implant.preflight(self.parts)

    def make(self) -> dict[str, StageFolder]:
        """Make what is missing, and return all stages by their roles."""
        return {stage.role: self.obtain(stage) for stage in self.stages}

    def obtain(self, stage: Stage) -> StageFolder:
        """Return a stage, made now if it is not there."""
        key, produce = stage.key, stage.produce
        if produce is None:
            return StageFolder(key)
        if key.hash not in self._made:
            if not self.store.has(key):
                self._inputs(stage)  # before the clock of this stage starts
            self._made[key.hash] = self.store.obtain(
                key, lambda folder: self._fill(stage, self._inputs(stage), folder)
            )
        return self._made[key.hash]

    def trains(self) -> bool:
        """Return whether a stage is left that several processes make together."""
        return any(stage.trains and not self.store.has(stage.key) for stage in self._all())

    def follow(self) -> None:
        """Help the first process of the run wherever it trains, until it has all stages.

        Raises:
            ValueError: If it has another config, or other code.
            LostProcessError: If a process of the run failed.
        """
        assert self.parts.team is not None
        _ = self.parts.device  # it may have to be waited for
        stages = {stage.key.hash: stage for stage in self._all()}
        for called in self.parts.team.calls():
            if called == _END:
                return
            if called not in stages:
                raise ValueError(
                    f"the config or code of process {self.parts.team.rank} is another one than "
                    "that of process 0"
                )
            stage = stages[called]
            made = {name: self._found(needed.key) for name, needed in stage.inputs.items()}
            with tempfile.TemporaryDirectory() as folder:
                self._fill(stage, made, Path(folder))

    def end(self) -> None:
        """Let the other processes of the run go."""
        self._call(_END)

    def _call(self, what: str) -> None:
        if self.parts.team is not None and self.parts.team.leads:
            self.parts.team.call(self._calls, what)
            self._calls += 1

    def _fill(self, stage: Stage, made: Mapping[str, StageFolder], folder: Path) -> None:
        assert stage.produce is not None
        if stage.trains and self.parts.team is not None:
            self._call(stage.key.hash)
            self.parts.team.connect(self.parts.device)
        with self.parts.execution(together=stage.trains).used():
            stage.produce(self.parts, made, folder)

    def _found(self, key: StageKey) -> StageFolder:
        """Return a stage that the first process has made, as soon as this machine sees it."""
        if not any(stage.key == key and stage.produce for stage in self._all()):
            return StageFolder(key)
        until = time.monotonic() + _VISIBLE
        while not self.store.has(key) and time.monotonic() < until:
            time.sleep(1.0)
        found = self.store.find(key)
        if found is None:
            raise ValueError(
                f"{self.store.root / key.folder_name} is not there on {platform.node()}; all "
                "machines of a run need the same runs_dir"
            )
        return found

    def _all(self) -> Iterator[Stage]:
        """Yield all stages, those that are only inputs of others too."""
        left = list(self.stages)
        while left:
            stage = left.pop()
            yield stage
            left += stage.inputs.values()

    def _inputs(self, stage: Stage) -> Mapping[str, StageFolder]:
        return {name: self.obtain(needed) for name, needed in stage.inputs.items()}
