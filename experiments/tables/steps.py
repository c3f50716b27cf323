"""Columns on the steps of a defense: the named target, the inverted trigger, the layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from evaluation.statistics import SHARE, UNBOUNDED, Estimate, counted, over_seeds
from experiments.results.measures import lookup
from experiments.results.runs import Run
from experiments.tables.grid import Column, Form, Value
from experiments.tables.measure import Measure, Runs, per_seed

_COSINE = (-1.0, 1.0)
_INVERSION = ("asr", "mask_share", "embedding_cosine")


def target_found() -> Measure:
    """Return how many of the runs that look for a target find the true one."""

    def read(runs: Runs) -> Value:
        found = [run.result["identification"] for run in runs]
        verdicts = [one["correct"] for one in found if one is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        return f"{sum(known)} of {len(known)}" if known else None

    return Measure(Column("target_found", "target found"), read)


def verdict() -> Measure:
    """Return what the defense takes the models for, the most frequent first."""

    def read(runs: Runs) -> Value:
        found = [run.result.get("verdict") for run in runs]
        counts = Counter(one["kind"] for one in found if one is not None)
        return _listed(counts)

    return Measure(Column("verdict", "verdict"), read)


def _listed(counts: Counter[str]) -> str | None:
    """Return words with how often they come, the most frequent first."""
    words = [f"{word} x{n}" if n > 1 else word for word, n in counts.most_common()]
    return ", ".join(words) or None


def named_class(key: Literal["target_label", "runner_up"], name: str, title: str) -> Measure:
    """Return the classes that step 1 names, the most frequent first."""

    def read(runs: Runs) -> Value:
        found = [run.result["identification"] for run in runs]
        return _listed(Counter(one[key] for one in found if one is not None))

    return Measure(Column(name, title), read)


def gain_of(key: Literal["gain", "runner_up_gain"], title: str) -> Measure:
    """Return the gain in frequency of a class that step 1 names."""

    def read(run: Run) -> Estimate | None:
        found = run.result["identification"]
        return None if found is None else Estimate(float(found[key]))

    return per_seed(Column(key, title, form="points", interval=True), read, (-1.0, math.inf))


def frequencies(runs: Runs) -> list[Measure]:
    """Return how often the found class is predicted, without and under each perturbation."""
    names = dict.fromkeys(vote["generator"] for run in runs for vote in run.votes)
    return [
        measure
        for name in names
        for measure in (
            _frequency(name, "clean_frequency", f"p_clean_{name}", f"P_clean, {name}"),
            _frequency(name, "perturbed_frequency", f"p_adv_{name}", f"P_adv, {name}"),
        )
    ]


def _frequency(
    generator: str,
    key: Literal["clean_frequency", "perturbed_frequency"],
    name: str,
    title: str,
) -> Measure:
    def read(run: Run) -> Estimate | None:
        shares = [vote[key] for vote in run.votes if vote["generator"] == generator]
        if not shares or run.found_label is None:
            return None
        share = float(shares[0][run.found_label])
        images = lookup(run.config, "defense/identify/images")
        known = type(images) is int and images > 0
        return counted(min(share, 1.0), images) if known else Estimate(share)

    return per_seed(Column(name, title, form="percent", interval=True), read)


def asr_inverted() -> Measure:
    """Return the ASR of the inverted trigger on the backdoored model."""

    def asr(run: Run) -> Estimate | None:
        found = run.result["inversion"]
        if found is None:
            return None
        images = found.get("images")
        return counted(found["asr"], images) if images else Estimate(found["asr"])

    column = Column("asr_inverted", "ASR of the inverted", form="percent", interval=True)
    return per_seed(column, asr)


def inverted(key: str, title: str, form: Form, bounds: tuple[float, float]) -> Measure:
    """Return a number of the inverted trigger."""

    def read(run: Run) -> Estimate | None:
        value = (run.result["inversion"] or {}).get(key)
        return None if value is None else Estimate(float(value))

    return per_seed(Column(key, title, form=form, interval=True), read, bounds)


def other_numbers(runs: Runs) -> list[Measure]:
    """Return what results say of inverted triggers beyond `asr`, `mask_share` and the cosine."""
    found = [run.result["inversion"] or {} for run in runs]
    keys = dict.fromkeys(
        key for one in found for key, value in one.items()
        if isinstance(value, float) and key not in _INVERSION
    )  # fmt: skip
    ends = {"cosine": _COSINE, "share": SHARE}
    return [
        inverted(key, key.replace("_", " "), "number",
                 ends.get(key.rpartition("_")[2], UNBOUNDED))
        for key in keys
    ]  # fmt: skip


def best_form() -> Measure:
    """Return the forms of the triggers that the numbers are of, the most frequent first."""

    def read(runs: Runs) -> Value:
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

    return Measure(Column("form", "its form"), read)


def divergence(runs: Runs) -> list[Measure]:
    """Return a column per layer: its activation divergence, and whether step 3 chose it."""
    layers = dict.fromkeys(layer for run in runs for layer in run.divergence)
    return [_divergence_of(layer) for layer in layers]


def _divergence_of(layer: str) -> Measure:
    def one(run: Run) -> Estimate | None:
        value = run.divergence.get(layer)
        return None if value is None else Estimate(float(value))

    def read(runs: Runs) -> Value:
        mean = over_seeds([one(run) for run in runs], UNBOUNDED)
        if mean is None:
            return None
        chosen = sum(layer in run.tuned_layers for run in runs)
        note = "chosen" if chosen == len(runs) else f"chosen in {chosen}" if chosen else ""
        return replace(mean, note=note)

    column = Column(f"divergence_{layer}", layer, form="number", interval=True, bracket=False)
    return Measure(column, read)


def tuned_layers() -> Measure:
    """Return the layers that step 3 chose in any of the runs."""

    def read(runs: Runs) -> Value:
        layers: Iterable[str] = (name for run in runs for name in run.tuned_layers)
        return " ".join(dict.fromkeys(layers)) or None

    return Measure(Column("tuned_layers", "chosen layers", where="csv"), read)
