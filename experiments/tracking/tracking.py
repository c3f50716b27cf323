"""Weights & Biases: one run per experiment, one group per sweep."""

from __future__ import annotations

import contextlib
import itertools
import logging
import netrc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlparse

from experiments.results.content import Result
from experiments.results.measures import MEASURES, MODELS, lookup, share
from experiments.results.summary import before_and_after
from experiments.tracking.record import is_logged, write_record

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
# How a model stands in the summary's keys.
_WHEN = dict(zip(MODELS, ("clean", "before", "after"), strict=True))
_VARIED = ("attack", "data", "defense", "detector", "evaluation", "model")


@dataclass(frozen=True)
class Tracking:
    """Where runs are logged.

    Attributes:
        mode: One of `MODES`; offline runs are sent later by ``invertune sync``.
        project: Project in W&B.
        group: Group of the runs; None takes the sweep's name.
    """

    mode: str
    project: str
    group: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"tracking.mode is one of {', '.join(MODES)}, got {self.mode!r}")

    def check(self) -> None:
        """Find out before the long work whether an online run could log in.

        Raises:
            ValueError: If there is no key.
        """
        if self.mode == "online" and not has_key():
            raise ValueError(
                "tracking=online needs a W&B key (WANDB_API_KEY, or wandb login); "
                "without one choose tracking=offline or tracking=disabled"
            )

    @contextlib.contextmanager
    def start(
        self,
        folder: Path,
        run_id: str,
        config: Mapping[str, Any],
        *,
        tags: Sequence[str] = (),
        sweep: str | None = None,
        name: str | None = None,
    ) -> Iterator[Log]:
        """Open a W&B run below ``folder``, and close it whatever happens.

        Nothing is opened when tracking is disabled, or this run was logged the same way before.

        Args:
            folder: Folder of the run.
            run_id: Its id; a run that is repeated goes under the same one.
            config: The resolved config.
            tags: Names of model, attack and defense, and of a detector.
            sweep: Name of the sweep, the group unless one is given.
            name: Shown in W&B, such as `run_title`; the folder's name if not given.
        """
        record = {"id": run_id, "mode": self.mode, "project": self.project, "group": self.group}
        run = None
        if self.mode != "disabled" and not is_logged(folder, record):
            run = self._open(folder, run_id, config, tags, sweep, name)
        opened = Log(run)
        try:
            yield opened
        except BaseException:
            if run is not None:
                run.finish(exit_code=1)
            raise
        if run is not None:
            local = _local_folder(run)
            run.finish(exit_code=0)
            if opened.complete:
                write_record(folder, {**record, "run": local})

    def _open(
        self,
        folder: Path,
        run_id: str,
        config: Mapping[str, Any],
        tags: Sequence[str],
        sweep: str | None,
        name: str | None,
    ) -> Any:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        try:
            return wandb.init(
                project=self.project,
                group=self.group or sweep,
                name=name or folder.name,
                id=run_id,
                dir=folder,
                mode=cast(Literal["offline", "online"], self.mode),
                resume="allow" if self.mode == "online" else None,
                config=dict(config),
                tags=list(tags),
                settings=wandb.Settings(silent=True, quiet=True, console="off"),
            )
        except (wandb.errors.Error, OSError, ValueError) as error:
            if self.mode == "online":
                raise ValueError(
                    f"W&B does not open an online run ({error}); choose tracking=offline"
                ) from error
            log.warning("W&B does not open a run: %s; result.json has all numbers", error)
            return None


class Log:
    """An open run, or none: then nothing happens.

    Attributes:
        run: The W&B run.
        complete: Whether a result was logged.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.complete = False

    def result(
        self,
        result: Result,
        curves: Mapping[str, Sequence[float]],
        pictures: Mapping[str, Sequence[Image]],
    ) -> None:
        """Log the summary, the table of before and after, loss curves and pictures.

        A fault of W&B is a warning: the numbers are in ``result.json``.

        Args:
            result: Content of ``result.json``.
            curves: Name -> loss of every step.
            pictures: Name of a trigger -> sample images under it.
        """
        if self.run is None:
            return
        import wandb

        try:
            self._curves(curves)
            rows: list[Iterable[Any]] = [*before_and_after(result)]
            table = wandb.Table(columns=["percent", *MODELS], data=rows)
            images = {
                f"triggers/{name}": [wandb.Image(image) for image in shown]
                for name, shown in pictures.items()
            }
            self.run.log({"before_and_after": table, **images})
            self.run.summary.update(summary(result))
        except (wandb.errors.Error, OSError, ValueError) as error:
            log.warning("W&B does not take the run: %s; result.json has all numbers", error)
            return
        self.complete = True

    def _curves(self, curves: Mapping[str, Sequence[float]]) -> None:
        self.run.define_metric("curves/step")
        self.run.define_metric("curves/*", step_metric="curves/step")
        for step, values in enumerate(itertools.zip_longest(*curves.values())):
            row = {
                f"curves/{name}": value
                for name, value in zip(curves, values, strict=True)
                if value is not None
            }
            self.run.log({"curves/step": step, **row})


def run_title(parts: Sequence[str], seed: int, overrides: Sequence[str] = ()) -> str:
    """Return a run's name for readers: ``rn50_mini: badnet → invertune, seed 0, preserve=5``.

    Args:
        parts: Names of model, attack and defense, and of a detector where there is one.
        seed: The run's.
        overrides: As given to Hydra; those of single settings that change numbers are shown.
    """
    model, attack, defense, *detectors = parts
    shown = [f"detector {name}" for name in detectors]
    for override in overrides:
        key, _, value = override.partition("=")
        first, *rest = key.lstrip("+~").split(".")
        if first in _VARIED and rest and rest[-1] != "batch_size":
            shown.append(f"{rest[-1]}={value}")
    return ", ".join([f"{model}: {attack} → {defense}", f"seed {seed}", *shown])


def summary(result: Result) -> dict[str, Any]:
    """Return the numbers of a run by name, such as ``zero_shot/asr/before``.

    Of the measures, ``clean`` is the model before the attack, ``before`` the backdoored one, and
    ``after`` the purified one.
    """
    numbers: dict[str, Any] = {
        f"{measure}/{when}": value
        for measure in MEASURES.values()
        for model, when in _WHEN.items()
        if (value := share(result, model, measure)) is not None
    }
    for section in ("identification", "inversion", "detection"):
        for key, found in (lookup(result, section) or {}).items():
            if isinstance(found, str | bool | int | float):
                numbers[f"{section}/{key}"] = found
    area = lookup(result, "detection/auroc/value")
    numbers |= {} if area is None else {"detection/auroc": area}
    numbers |= {f"seconds/{stage}": value for stage, value in result["seconds"].items()}
    return {**numbers, "peak_memory_mib": result["peak_memory_mib"]}


def _local_folder(run: Any) -> str | None:
    files = getattr(run, "dir", None)  # RUN/wandb/offline-run-.../files
    return None if files is None else Path(files).parent.name


def has_key() -> bool:
    """Return whether there is a key for W&B's server: in the environment, or in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for path in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError, RuntimeError):
            if netrc.netrc(str(path.expanduser())).authenticators(host) is not None:
                return True
    return False
