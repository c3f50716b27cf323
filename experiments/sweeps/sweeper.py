"""The sweeper: plans a whole grid before it starts, and runs what is left of it.

Hydra's own sweeper starts every run of a grid every time, and leaves no list of them. This one
composes all runs first, so that a wrong value is found before an hour's work, writes the plan
(`experiments.sweeps.sweep`), and hands the launcher only the runs that are neither complete nor
failed.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from experiments.config import part_names, plain_config, result_id, run_name
from experiments.stages.stages import Stages
from experiments.sweeps.failures import failed, is_complete
from experiments.sweeps.sweep import Job, Sweep, axes_of, save_sweep, sweep_name

Plugins.instance()  # its scan runs the modules of the core plugins, which makes their classes anew
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

log = logging.getLogger(__name__)

RETRY = "INVERTUNE_RETRY_FAILED"
GROUP = "INVERTUNE_SWEEP"  # tells runs in other processes which sweep they are of


class SweepFailedError(RuntimeError):
    """Some runs of a sweep failed; each has said why."""


# Hydra takes plugins from below this package only, which is a namespace for everyone's.
_PLUGIN = "hydra_plugins.invertune"


class ResumingSweeper(BasicSweeper):
    """Runs the Cartesian product of all comma-separated values, as far as it is left to do."""

    __module__ = _PLUGIN

    def sweep(self, arguments: list[str]) -> Any:
        """Plan the grid, run what is left, and return what the launcher returns.

        Raises:
            SweepFailedError: If a run failed, now or before.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        ((*combinations,),) = self.split_arguments(parsed, None)
        jobs = [self._plan(overrides) for overrides in combinations]
        runs_dir = Path(self.config.runs_dir).expanduser()
        name = sweep_name(self._preset(), [job.id for job in jobs])
        save_sweep(
            runs_dir,
            Sweep(
                name=name,
                experiment=self.config.get("experiment"),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                axes=axes_of(combinations),
                jobs=jobs,
                arguments=list(arguments),
            ),
        )
        complete = [is_complete(runs_dir, job) for job in jobs]
        given_up = [
            not done and failed(runs_dir / job.run) and os.environ.get(RETRY) != "1"
            for job, done in zip(jobs, complete, strict=True)
        ]
        states = zip(combinations, complete, given_up, strict=True)
        left = [overrides for overrides, done, out in states if not done and not out]
        log.info(
            "sweep %s: %d runs, %d complete, %d failed before, %d to do",
            name, len(jobs), sum(complete), sum(given_up), len(left),
        )  # fmt: skip
        returns = self._launch(name, left)
        broken = sum(given_up) + sum(ret.status != JobStatus.COMPLETED for ret in returns)
        if broken:
            raise SweepFailedError(
                f"{broken} of {len(jobs)} runs failed; `invertune status {runs_dir}` says why, "
                "--retry-failed runs them again"
            )
        return [returns]

    def _launch(self, name: str, left: Sequence[Sequence[str]]) -> Sequence[Any]:
        if not left:
            return []
        assert self.launcher is not None
        before = os.environ.get(GROUP)
        os.environ[GROUP] = name
        try:
            returns: Sequence[Any] = self.launcher.launch(left, initial_job_idx=0)
            return returns
        finally:
            del os.environ[GROUP]
            if before is not None:
                os.environ[GROUP] = before

    def _plan(self, overrides: Sequence[str]) -> Job:
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        composed = loader.load_sweep_config(self.config, list(overrides))
        choices = OmegaConf.to_container(composed.hydra.runtime.choices)
        config = plain_config(composed)
        assert isinstance(choices, dict)
        parts = part_names(config, {str(k): v for k, v in choices.items()})
        stages = Stages(config)
        return Job(
            overrides=list(overrides),
            run=run_name(config, parts),
            id=result_id(config),
            stages={role: key.folder_name for role, key in stages.roles().items()},
        )

    def _preset(self) -> str | None:
        assert self.config is not None
        chosen = self.config.hydra.runtime.choices.get("experiment")
        return None if chosen in (None, "null") else str(chosen)


def register() -> None:
    """Make the sweeper known to Hydra, under the name that conf/config.yaml has."""
    namespace = _PLUGIN.split(".", maxsplit=1)[0]
    try:
        package = importlib.import_module(namespace)
    except ImportError:  # no plugin is installed
        package = types.ModuleType(namespace)
        package.__path__ = []
        sys.modules[namespace] = package
    own = sys.modules[__name__]
    sys.modules[_PLUGIN] = own
    package.invertune = own  # type: ignore[attr-defined]
    Plugins.instance().register(ResumingSweeper)
