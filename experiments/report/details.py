"""What the page shows of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from evaluation.intervals import Rate
from experiments.figures.pictures import Picture, best_trigger, trigger_rows
from experiments.report import diagrams
from experiments.report.survival import survival
from experiments.results.content import Config
from experiments.results.measures import MEASURES, MODELS, rate_of, total_seconds
from experiments.results.runs import Part, Run
from experiments.results.summary import detection_cell, detection_line, target_line, verdict_line
from experiments.results.variants import variants
from experiments.sweeps.sweep import Sweep


@dataclass(frozen=True)
class Row:
    """A row of the table of all runs.

    Attributes:
        run: The run.
        variant: What tells it from others of its name.
    """

    run: Run
    variant: str = ""

    @property
    def rates(self) -> Mapping[str, Mapping[str, Rate | None]]:
        """Measure -> model -> what was measured."""
        return rates_of(self.run)

    @property
    def detected(self) -> str | None:
        """What its detector says in a few words; None without one."""
        return detection_cell(self.run.result)

    @property
    def seconds(self) -> float:
        """The time of all stages."""
        return total_seconds(self.run.result)


@dataclass(frozen=True)
class Details:
    """The part of the page on one run.

    Attributes:
        run: The run.
        target: Which target its defense found.
        verdict: What its defense takes the model for; None if it does not ask.
        detection: What its detector says; None without one.
        pictures: Strips of test images.
        charts: Title -> diagram.
        sweeps: Names of the sweeps that it belongs to.
    """

    run: Run
    target: str
    verdict: str | None
    detection: str | None
    pictures: Sequence[Picture]
    charts: Mapping[str, Markup]
    sweeps: Sequence[str]

    @property
    def rates(self) -> Mapping[str, Mapping[str, Rate | None]]:
        """Measure -> model -> what was measured."""
        return rates_of(self.run)

    @property
    def config(self) -> str:
        """The resolved config as YAML."""
        return _as_yaml(self.run.config)

    @property
    def stages(self) -> Mapping[str, tuple[str, bool]]:
        """Role -> the stage's folder, and whether it is on this machine."""
        folders = self.run.result.get("stages", {})
        return {role: (folder, self.run.stage(role).is_dir()) for role, folder in folders.items()}


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Return what the table of all runs shows; runs of equal names are told apart."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, run in enumerate(runs):
        parts: tuple[Part, ...] = ("model", "data", "attack", "defense", "detector")
        names = tuple(run.name(part) for part in parts)
        groups.setdefault(names, []).append(i)
    named = [""] * len(runs)
    for group in groups.values():
        own = variants([runs[i].config for i in group], [runs[i].seed for i in group])
        for i, name in zip(group, own, strict=True):
            named[i] = name
    return [Row(run, name) for run, name in zip(runs, named, strict=True)]


def details_of(run: Run, samples: int, sweeps: Sequence[Sweep]) -> Details:
    """Return the part on one run.

    Args:
        run: The run.
        samples: Test images in a strip, 0 for no pictures.
        sweeps: All sweeps of its folder.
    """
    return Details(
        run=run,
        target=target_line(run.result),
        verdict=verdict_line(run.result),
        detection=detection_line(run.result),
        pictures=pictures_of(run, samples) if samples else [],
        charts={title: Markup(drawing) for title, drawing in _charts(run).items()},
        sweeps=[sweep.name for sweep in sweeps if any(job.id == run.id for job in sweep.jobs)],
    )


def rates_of(run: Run) -> dict[str, dict[str, Rate | None]]:
    """Return measure -> model -> what was measured."""
    return {
        title: {model: rate_of(run.result, model, path) for model in MODELS}
        for title, path in MEASURES.items()
    }


def pictures_of(run: Run, count: int) -> list[Picture]:
    """Return strips of so many test images: clean, under the true and the inverted trigger."""
    return trigger_rows(run.pictures, best_trigger(run.result), count)


def _charts(run: Run) -> dict[str, str]:
    drawn = {"Before and after": diagrams.before_after(rates_of(run))}
    if run.votes:
        title = "Step 1: predicted classes under universal perturbations"
        drawn[title] = diagrams.frequencies(title, run)
    if run.survival:
        title = "Step 1: which classes survive as the trigger's budget shrinks"
        drawn[title] = survival(title, run)
    if run.divergence:
        title = "Step 3: activation divergence per layer"
        drawn[title] = diagrams.divergence(title, run)
    if any(run.losses.values()):
        drawn["Losses"] = diagrams.losses(run.losses)
    return drawn


def _as_yaml(config: Config) -> str:
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast
    text: str = yaml.dump(
        dict(config), Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text
