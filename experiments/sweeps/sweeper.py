"""The sweeper: plans a whole grid before it starts, and runs what is left of it.

Hydra's own sweeper starts every run of a grid every time, and leaves no list of them. This one
composes all runs first, so that a wrong value is found before an hour's work, writes the plan
(`experiments.sweeps.sweep`), and hands the launcher only the runs that are neither complete nor
failed.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from experiments.config import experiment_id, part_names, plain_config, result_id, run_name
from experiments.names import runs_folder
from experiments.stages.stages import Stages
from experiments.stages.team import is_member
from experiments.stages.weighed import with_weights
from experiments.sweeps.failures import failed, is_complete
from experiments.sweeps.sweep import Job, Sweep, axes_of, save_sweep, sweep_name
from invertune.contents import remembered

Plugins.instance()  # its scan runs the modules of the core plugins, which makes their classes anew
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

log = logging.getLogger(__name__)

NODE = "hydra.sweeper"


class SweepFailedError(RuntimeError):
    """Some runs of a sweep failed; each has said why."""


# Hydra takes plugins from below this package only, which is a namespace for everyone's.
_PLUGIN = "hydra_plugins.invertune"


class ResumingSweeper(BasicSweeper):
    """Runs the Cartesian product of all comma-separated values, as far as it is left to do."""

    __module__ = _PLUGIN

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        retry_failed: bool = False,
        name: str | None = None,
        traceback: bool = False,
    ) -> None:
        """Take the fields of ``hydra.sweeper``.

        Args:
            max_batch_size: As in Hydra's own sweeper, which ignores it here.
            params: Override key -> its values, for presets.
            retry_failed: Whether runs that failed before are run again.
            name: Of the sweep; the sweeper gives it to its runs.
            traceback: Whether runs show the tracebacks of their errors.
        """
        super().__init__(max_batch_size, params)
        self.retry_failed = retry_failed

    @remembered()
    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Plan the grid, run what is left, and return what the launcher returns.

        Raises:
            SweepFailedError: If a run failed, now or before.
            ValueError: If torchrun started this process.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        if is_member():
            raise ValueError(
                "the processes of one torchrun make one run; a sweep starts its own for each run: "
                "leave torchrun out and set processes=N"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        ((*combinations,),) = self.split_arguments(parsed, None)
        # 0 and 0.0 are one value, and so one run.
        jobs = [*{job.id: job for job in map(self._plan, reversed(combinations))}.values()][::-1]
        runs_dir = runs_folder(self.config.runs_dir)
        plan = Sweep(
            name=sweep_name(self._preset(), [job.id for job in jobs]),
            experiment=experiment_id(self.config.get("experiment")),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            axes=axes_of([job.overrides for job in jobs]),
            jobs=jobs,
            arguments=list(arguments),
        )
        save_sweep(runs_dir, plan)
        left, given_up = self._left(runs_dir, plan)
        returns = self._launch(plan.name, [job.overrides for job in left])
        broken = given_up + sum(ret.status != JobStatus.COMPLETED for ret in returns)
        if broken:
            raise SweepFailedError(
                f"{broken} of {len(jobs)} runs failed; `invertune status {runs_dir}` says why, "
                "--retry-failed runs them again"
            )
        return [returns]

    def _left(self, runs_dir: Path, plan: Sweep) -> tuple[list[Job], int]:
        """Return the runs to do, and how many failed before and are given up."""
        missing = [job for job in plan.jobs if not is_complete(runs_dir, job)]
        left = [job for job in missing if self.retry_failed or not failed(runs_dir / job.run)]
        given_up = len(missing) - len(left)
        log.info(
            "sweep %s: %d runs, %d complete, %d failed before, %d to do",
            plan.name, len(plan.jobs), len(plan.jobs) - len(missing), given_up, len(left),
        )  # fmt: skip
        return left, given_up

    def _launch(self, name: str, left: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        if not left:
            return []
        assert self.launcher is not None
        # As an override it reaches runs in other processes and on other machines too; those of
        # hydra.* are neither in a run's config nor in its name.
        told = [[*overrides, f"{NODE}.name={name}"] for overrides in left]
        returns: Sequence[JobReturn] = self.launcher.launch(told, initial_job_idx=0)
        return returns

    def _plan(self, overrides: Sequence[str]) -> Job:
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        composed = loader.load_sweep_config(self.config, list(overrides))
        choices = OmegaConf.to_container(composed.hydra.runtime.choices)
        config = with_weights(plain_config(composed))
        assert isinstance(choices, dict)
        parts = part_names(config, {str(k): v for k, v in choices.items()})
        return Job(
            overrides=list(overrides),
            run=run_name(config, parts),
            id=result_id(config),
            stages={role: key.folder_name for role, key in Stages(config).roles().items()},
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
