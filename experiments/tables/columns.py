"""Columns of the experiments' tables, and how their cells are read from runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.statistics import SHARE, UNBOUNDED, Estimate, counted, over_seeds
from experiments.results.measures import lookup
from experiments.results.runs import Run
from experiments.tables.grid import Column, Value

Runs = Sequence[Run]


@dataclass(frozen=True)
class Measure:
    """A column, and how its cell is read from the runs of a row, one per seed, at least one."""

    column: Column
    read: Callable[[Runs], Value]


@dataclass(frozen=True)
class Layout:
    """The table of one experiment.

    Attributes:
        measures: From all runs of the table to its columns after those that name a row.
        paired: Whether InverTune is tested against every other defense.
    """

    measures: Callable[[Runs], list[Measure]]
    paired: bool = False


def per_seed(
    column: Column,
    estimate: Callable[[Run], Estimate | None],
    bounds: tuple[float, float] = SHARE,
) -> Measure:
    return Measure(column, lambda runs: over_seeds([estimate(run) for run in runs], bounds))


def _rate(run: Run, model: str, path: str) -> Estimate | None:
    found = lookup(run.result["scores"].get(model), path)
    return None if found is None else Estimate(found["value"], found["low"], found["high"])


def share_of(name: str, title: str, model: str, path: str, **more: Any) -> Measure:
    column = Column(name, title, form="percent", interval=True, **more)
    return per_seed(column, lambda run: _rate(run, model, path))


def target_found() -> Measure:
    """Return how many of the runs that look for a target find the true one."""

    def read(runs: Runs) -> Value:
        found = [run.result["identification"] for run in runs]
        verdicts = [one["correct"] for one in found if one is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        return f"{sum(known)} of {len(known)}" if known else None

    return Measure(Column("target_found", "target found"), read)


def ca_loss() -> Measure:
    def loss(run: Run) -> Estimate | None:
        before, after = (_rate(run, model, "zero_shot/ca") for model in ("backdoored", "purified"))
        return None if before is None or after is None else Estimate(before.value - after.value)

    column = Column("ca_loss", "CA loss", form="points", interval=True, bracket=False)
    return per_seed(column, loss, UNBOUNDED)


def joined(title: str, model: str, paths: Sequence[str]) -> Measure:
    """Return means side by side: the whole of recall at every k would not fit on a page."""
    column = Column(title, title, where="text")

    def read(runs: Runs) -> Value:
        means = [over_seeds([_rate(run, model, path) for run in runs]) for path in paths]
        return ", ".join("-" if mean is None else f"{100 * mean.value:.1f}" for mean in means)

    return Measure(column, read)


def votes_of(run: Run) -> list[Mapping[str, Any]]:
    return (run.evidence.get("identification") or {}).get("votes") or []


def named_classes(runs: Runs, key: str) -> Value:
    found = [run.result["identification"] for run in runs]
    counts = Counter(str(one[key]) for one in found if one is not None)
    return ", ".join(f"{name} x{n}" if n > 1 else name for name, n in counts.most_common()) or None


def gain_of(key: str, title: str) -> Measure:
    def read(run: Run) -> Estimate | None:
        found = run.result["identification"]
        return None if found is None else Estimate(float(found[key]))

    return per_seed(Column(key, title, form="points", interval=True), read, (-1.0, 1.0))


def frequency_of(generator: str, key: str, name: str, title: str) -> Measure:
    """Return how often the found class is predicted, under one generator's perturbation."""

    def read(run: Run) -> Estimate | None:
        found = run.evidence.get("identification") or {}
        shares = [vote[key] for vote in votes_of(run) if vote["generator"] == generator]
        if not shares:
            return None
        share = float(shares[0][found["target_label"]])
        images = lookup(run.result["config"], "defense/identify/images")
        return counted(share, images) if images else Estimate(share)

    return per_seed(Column(name, title, form="percent", interval=True), read)


def found_number(key: str, title: str, form: str) -> Measure:
    def read(run: Run) -> Estimate | None:
        value = (run.result["inversion"] or {}).get(key)
        return None if value is None else Estimate(float(value))

    ends = {"percent": SHARE, "cosine": (-1.0, 1.0)}
    bounds = ends.get(form, ends.get(key.rpartition("_")[2], UNBOUNDED))
    return per_seed(Column(key, title, form=form, interval=True), read, bounds)


def best_form(runs: Runs) -> Value:
    """Return the forms of the triggers that the numbers are of, the most frequent first."""
    forms: Counter[str] = Counter()
    for run in runs:
        found = run.result["inversion"] or {}
        alike = [
            one["form"]
            for one in found.get("per_trigger", [])
            if all(one[key] == found[key] for key in ("asr", "mask_share"))
        ]
        forms.update(alike[:1])
    return ", ".join(forms) or None


def divergence_of(layer: str) -> Measure:
    def one(run: Run) -> Estimate | None:
        value = run.evidence.get("divergence", {}).get(layer)
        return None if value is None else Estimate(float(value))

    def read(runs: Runs) -> Value:
        mean = over_seeds([one(run) for run in runs], UNBOUNDED)
        if mean is None:
            return None
        tuned = sum(layer in run.evidence.get("tuned_layers", []) for run in runs)
        note = "tuned" if tuned == len(runs) else f"tuned in {tuned}" if tuned else ""
        return Estimate(mean.value, mean.low, mean.high, note)

    column = Column(f"divergence_{layer}", layer, form="number", interval=True, bracket=False)
    return Measure(column, read)


def tuned_layers(runs: Runs) -> Value:
    layers: Iterable[str] = (name for run in runs for name in run.evidence.get("tuned_layers", []))
    return " ".join(dict.fromkeys(layers)) or None
