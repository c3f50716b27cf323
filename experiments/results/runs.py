"""One run as every reader takes it: its result, and what its stages left where they are at hand."""

from __future__ import annotations

import functools
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.results.content import Config, Result, Survival, Vote
from experiments.results.left import (
    Predictions,
    read_evidence,
    read_losses,
    read_or_warn,
    read_predictions,
    stage_folder,
)
from experiments.results.measures import lookup
from experiments.results.result import FILE, read_result

log = logging.getLogger(__name__)

# A part of a run that has a name.
Part = Literal["data", "model", "attack", "defense", "detector"]


@dataclass(frozen=True, eq=False)
class Run:
    """A run below a folder of runs; every file of its stages is read once, when first asked for.

    Attributes:
        folder: Its own folder; stages are found beside it.
        result: Content of its ``result.json``.
    """

    folder: Path
    result: Result

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name its config."""
        return str(self.result["id"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.result["seed"]

    @property
    def config(self) -> Config:
        """Its resolved config."""
        return self.result["config"]

    @property
    def target(self) -> str | None:
        """The attack's target label; None where there is none."""
        return self.result["attack"]["target_label"]

    def name(self, part: Part) -> str:
        """Return the name of its ``data``, ``model``, ``attack``, ``defense`` or ``detector``.

        A run without a detector has ``none``.
        """
        if part == "detector":
            return str(self.detection.get("name", "none"))
        return str(self.result[part]["name"])

    @property
    def detection(self) -> Mapping[str, Any]:
        """What its detector said; empty without one."""
        return self.result.get("detection") or {}

    def stage(self, role: str) -> Path:
        """Return the folder of a stage; it may not be there."""
        named = self.result.get("stages", {}).get(role)
        if named is None:
            return self.folder.parent / f"no-{role.replace('/', '-')}"
        return stage_folder(self.folder.parent, named.removeprefix("stages/"))

    @property
    def pictures(self) -> Path:
        """The folder with pictures of its triggers; it may not be there."""
        return self.stage("inspect") / "pictures"

    @functools.cached_property
    def class_names(self) -> list[str]:
        """Class names in the order of their indices, empty where the config has none."""
        found = lookup(self.config, "data/classes")
        return list(map(str, found)) if isinstance(found, Mapping | list) else []

    @functools.cached_property
    def evidence(self) -> Mapping[str, Any]:
        """What the defense found on its way; empty where it is not on this machine."""
        return read_evidence(self.stage("purify") / "evidence.json")

    @functools.cached_property
    def detector_evidence(self) -> Mapping[str, Any]:
        """What the detector found on its way; empty where it is not on this machine."""
        return read_evidence(self.stage("detect") / "evidence.json")

    @property
    def votes(self) -> Sequence[Vote]:
        """What every generator of step 1 did; empty where the defense has no such step."""
        found: Sequence[Vote] = lookup(self.evidence, "identification/votes") or []
        return found

    @property
    def survival(self) -> Mapping[str, Sequence[Survival]]:
        """What survived of the classes as budgets shrank, in step 1 and when it was verified.

        Empty where the defense has no such step.
        """
        found = self.evidence.get("identification") or {}
        named = {"step 1": found.get("survival") or [], "verified": found.get("again") or []}
        return {name: forms for name, forms in named.items() if forms}

    @property
    def counted_label(self) -> int | None:
        """Index of the class that the true target counted as when the defense looked for it.

        None without a target, or where the classes are not known.
        """
        if self.target is None or self.target not in self.class_names:
            return None
        label = self.class_names.index(self.target)
        groups: list[list[int]] = lookup(self.evidence, "identification/alike") or []
        return next((group[0] for group in groups if label in group), label)

    @property
    def found_label(self) -> int | None:
        """Index of the class that step 1 names."""
        label: int | None = lookup(self.evidence, "identification/target_label")
        return label

    @property
    def divergence(self) -> Mapping[str, float]:
        """Layer -> activation divergence; empty where the defense has no such step."""
        return self.evidence.get("divergence") or {}

    @property
    def tuned_layers(self) -> Sequence[str]:
        """The layers that step 3 chose."""
        return self.evidence.get("tuned_layers") or []

    @property
    def neurons(self) -> Mapping[str, Sequence[int]]:
        """Tuned layer -> how many of its neurons were tuned, and how many it has."""
        return self.evidence.get("neurons") or {}

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """What the purified model predicted; None where that is not on this machine."""
        return read_predictions(self.stage("evaluate/purified") / "predictions.npz")

    @functools.cached_property
    def trigger(self) -> str | None:
        """The trigger's class and parameters, without a look for that class."""
        state = read_or_warn(self.stage("implant") / "trigger.json")
        if not isinstance(state, dict):
            return None
        kind = str(state.pop("_target_", "trigger")).rpartition(".")[2]
        fields = [f"{name}={str(value)[:40]}" for name, value in state.items()]
        return f"{kind}({', '.join(fields)})"

    @functools.cached_property
    def losses(self) -> dict[str, list[float]]:
        """Name -> one loss per step: of pre-training, implanting, the defense and the detector."""
        roles = ("pretrain", "implant")
        own = {role: read_losses(self.stage(role) / "losses.json") for role in roles}
        curves = {role: values for role, values in own.items() if values}
        detected = self.detector_evidence.get("curves") or {}
        own = {f"detect/{name}": values for name, values in detected.items()}
        return {**curves, **(self.evidence.get("curves") or {}), **own}


def load_runs(runs_dir: Path, but: Container[str] = ()) -> list[Run]:
    """Return all runs below a folder that have a result, by name of the run.

    A result that is truncated, of another version, edited or against the schema is named in a
    warning and left out.

    Args:
        runs_dir: The folder.
        but: Names of runs that are not asked for.

    Raises:
        ValueError: If there is no such folder.
    """
    if not runs_dir.is_dir():
        raise ValueError(f"{runs_dir} is not a folder of runs")
    runs = []
    for path in sorted(runs_dir.glob(f"*/{FILE}")):
        if path.parent.name in but:
            continue
        try:
            runs.append(Run(path.parent, read_result(path)))
        except (ValueError, OSError) as error:
            log.warning("%s is left out: %s", path, error)
    return runs


def different(runs: Sequence[Run]) -> list[Run]:
    """Return every run once, though its folder may have been copied; says how many are copies."""
    kept: dict[tuple[object, ...], Run] = {}
    for run in runs:
        names = (run.name("model"), run.name("attack"), run.name("defense"))
        kept.setdefault((run.id, run.seed, *names), run)
    if len(kept) < len(runs):
        log.warning("copies of runs are left out: %d", len(runs) - len(kept))
    return list(kept.values())
