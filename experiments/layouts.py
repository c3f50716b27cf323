"""What the table of each of the paper's experiments shows, and the numbers that the paper gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.statistics import SHARE, UNBOUNDED, Estimate, counted, over_seeds
from experiments.summary import lookup
from experiments.table_grid import Column, Value
from experiments.table_run import Run

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


def _each(
    column: Column,
    estimate: Callable[[Run], Estimate | None],
    bounds: tuple[float, float] = SHARE,
) -> Measure:
    return Measure(column, lambda runs: over_seeds([estimate(run) for run in runs], bounds))


def _rate(run: Run, model: str, path: str) -> Estimate | None:
    found = lookup(run.result["scores"].get(model), path)
    return None if found is None else Estimate(found["value"], found["low"], found["high"])


def _share(name: str, title: str, model: str, path: str, **more: Any) -> Measure:
    column = Column(name, title, form="percent", interval=True, **more)
    return _each(column, lambda run: _rate(run, model, path))


# What the paper reports for its strongest attack, BadCLIP, on RN50; shares.
_PAPER = {
    "asr_after": {"none": "98.36", "invertune": "0.49", "par": "> 15"},
    "ca_loss": {"invertune": "3.07"},
    "retrieval_asr_after": {"none": "99.28", "invertune": "0.68"},
    "recall_kept": {"invertune": "69.58"},
}
_PAPER_ATTACK, _PAPER_MODEL = "badclip", "rn50"
_PAPER_GAIN = {"mushroom": "+97.23"}


def _paper(quantity: str, title: str, optional: bool = True) -> Measure:
    """Return a column of the paper's numbers, in percent as it prints them, in all forms."""

    def read(runs: Runs) -> Value:
        model, attack, defense = (
            str(runs[0].result[part]["name"]) for part in ("model", "attack", "defense")
        )
        if not (attack.startswith(_PAPER_ATTACK) and model.startswith(_PAPER_MODEL)):
            return None
        # invertune_paper and invertune_code are the same method.
        name = "invertune" if defense.startswith("invertune") else defense
        return _PAPER[quantity].get(name)

    return Measure(Column(f"paper_{quantity}_percent", title, optional=optional), read)


def _found_right() -> Measure:
    """Return how many of the runs that look for a target find the true one."""

    def read(runs: Runs) -> Value:
        found = [run.result["identification"] for run in runs]
        verdicts = [one["correct"] for one in found if one is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        return f"{sum(known)} of {len(known)}" if known else None

    return Measure(Column("target_found", "target found"), read)


def _ca_loss() -> Measure:
    def loss(run: Run) -> Estimate | None:
        before, after = (_rate(run, model, "zero_shot/ca") for model in ("backdoored", "purified"))
        return None if before is None or after is None else Estimate(before.value - after.value)

    column = Column("ca_loss", "CA loss", form="points", interval=True, bracket=False)
    return _each(column, loss, UNBOUNDED)


def _after() -> list[Measure]:
    return [
        _share("ca_after", "CA after", "purified", "zero_shot/ca", best="highest"),
        _share("asr_after", "ASR after", "purified", "zero_shot/asr", best="lowest"),
        _share("own_class_after", "own class after", "purified", "zero_shot/own_class"),
    ]


def _repair(_: Runs) -> list[Measure]:
    ca_after, asr_after, own_class_after = _after()
    return [
        _share("ca_clean", "CA clean", "clean", "zero_shot/ca"),
        _share("ca_before", "CA before", "backdoored", "zero_shot/ca"),
        ca_after,
        _share("asr_before", "ASR before", "backdoored", "zero_shot/asr"),
        asr_after,
        own_class_after,
        _found_right(),
    ]


def _attack(_: Runs) -> list[Measure]:
    """Return the columns of an attack before any defense."""
    return [
        _share("ca_clean", "CA clean", "clean", "zero_shot/ca"),
        _share("ca", "CA", "backdoored", "zero_shot/ca"),
        _share("asr", "ASR", "backdoored", "zero_shot/asr"),
        _share("target_rate", "target rate", "backdoored", "zero_shot/target_rate"),
        _share("own_class", "own class", "backdoored", "zero_shot/own_class"),
        _share("retrieval_asr_r1", "retrieval ASR@1", "backdoored", "retrieval/asr/r@1"),
    ]


def _classification(runs: Runs) -> list[Measure]:
    return [
        *_repair(runs),
        _paper("asr_after", "paper: ASR after, %", optional=False),
        _ca_loss(),
        _paper("ca_loss", "paper: CA loss, points"),
    ]


def _retrieval(_: Runs) -> list[Measure]:
    measures = []
    for way, arrow in (("image_to_text", "image to text"), ("text_to_image", "text to image")):
        for when, model in (("before", "backdoored"), ("after", "purified")):
            best = "highest" if when == "after" else ""
            path = f"retrieval/{way}"
            measures += [
                _share(f"{way}_r1_{when}", f"R@1 {arrow} {when}", model, f"{path}/r@1", best=best),
                *(
                    _share(f"{way}_r{k}_{when}", f"R@{k}", model, f"{path}/r@{k}", where="csv")
                    for k in (5, 10)
                ),
                _joined(f"R@5, R@10 {arrow} {when}", model, [f"{path}/r@5", f"{path}/r@10"]),
            ]
    asr = "retrieval/asr/r@1"
    return [
        *measures,
        _share("retrieval_asr_before", "retrieval ASR@1 before", "backdoored", asr),
        _share("retrieval_asr_after", "retrieval ASR@1 after", "purified", asr, best="lowest"),
        _paper("retrieval_asr_after", "paper: retrieval ASR after, %", optional=False),
        _paper("recall_kept", "paper: retrieval score kept, %"),
    ]


def _joined(title: str, model: str, paths: Sequence[str]) -> Measure:
    """Return means side by side: the whole of recall at every k would not fit on a page."""
    column = Column(title, title, where="text")

    def read(runs: Runs) -> Value:
        means = [over_seeds([_rate(run, model, path) for run in runs]) for path in paths]
        return ", ".join("-" if mean is None else f"{100 * mean.value:.1f}" for mean in means)

    return Measure(column, read)


def _identification(runs: Runs) -> list[Measure]:
    generators = dict.fromkeys(vote["generator"] for run in runs for vote in _votes(run))
    measures = [
        Measure(Column("found", "class found"), lambda runs: _names(runs, "target_label")),
        _found_right(),
        _gain("gain", "gain, points"),
        Measure(Column("runner_up", "runner-up"), lambda runs: _names(runs, "runner_up")),
        _gain("runner_up_gain", "its gain, points"),
        _paper_gain(),
    ]
    for name in generators:
        measures += [
            _frequency(name, "clean_frequency", f"p_clean_{name}", f"P_clean, {name}"),
            _frequency(name, "perturbed_frequency", f"p_adv_{name}", f"P_adv, {name}"),
        ]
    return measures


def _votes(run: Run) -> list[Mapping[str, Any]]:
    return (run.evidence.get("identification") or {}).get("votes") or []


def _names(runs: Runs, key: str) -> Value:
    found = [run.result["identification"] for run in runs]
    counts = Counter(str(one[key]) for one in found if one is not None)
    return ", ".join(f"{name} x{n}" if n > 1 else name for name, n in counts.most_common()) or None


def _gain(key: str, title: str) -> Measure:
    def read(run: Run) -> Estimate | None:
        found = run.result["identification"]
        return None if found is None else Estimate(float(found[key]))

    return _each(Column(key, title, form="points", interval=True), read, (-1.0, 1.0))


def _paper_gain() -> Measure:
    def read(runs: Runs) -> Value:
        return _PAPER_GAIN.get(runs[0].result["attack"]["target_label"] or "")

    return Measure(Column("paper_gain_points", "paper: gain, points", optional=True), read)


def _frequency(generator: str, key: str, name: str, title: str) -> Measure:
    """Return how often the found class is predicted, under one generator's perturbation."""

    def read(run: Run) -> Estimate | None:
        found = run.evidence.get("identification") or {}
        shares = [vote[key] for vote in _votes(run) if vote["generator"] == generator]
        if not shares:
            return None
        share = float(shares[0][found["target_label"]])
        images = lookup(run.result["config"], "defense/identify/images")
        return counted(share, images) if images else Estimate(share)

    return _each(Column(name, title, form="percent", interval=True), read)


def _inversion(runs: Runs) -> list[Measure]:
    known = ("asr", "mask_share", "embedding_cosine")
    found = [run.result["inversion"] or {} for run in runs]
    more = dict.fromkeys(
        key for one in found for key, value in one.items()
        if isinstance(value, float) and key not in known
    )  # fmt: skip

    def asr(run: Run) -> Estimate | None:
        found = run.result["inversion"]
        if found is None:
            return None
        images = found.get("images")
        return counted(found["asr"], images) if images else Estimate(found["asr"])

    return [
        _share("asr_before", "ASR of the true trigger", "backdoored", "zero_shot/asr"),
        _each(Column("asr_inverted", "ASR of the inverted", form="percent", interval=True), asr),
        Measure(Column("form", "its form"), _best_form),
        _found_number("mask_share", "its area, %", "percent"),
        _found_number("embedding_cosine", "cosine of embeddings", "number"),
        *(_found_number(key, key.replace("_", " "), "number") for key in more),
        _found_right(),
    ]


def _found_number(key: str, title: str, form: str) -> Measure:
    def read(run: Run) -> Estimate | None:
        value = (run.result["inversion"] or {}).get(key)
        return None if value is None else Estimate(float(value))

    ends = {"percent": SHARE, "cosine": (-1.0, 1.0)}
    bounds = ends.get(form, ends.get(key.rpartition("_")[2], UNBOUNDED))
    return _each(Column(key, title, form=form, interval=True), read, bounds)


def _best_form(runs: Runs) -> Value:
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


def _layers(runs: Runs) -> list[Measure]:
    names = dict.fromkeys(layer for run in runs for layer in run.evidence.get("divergence", {}))
    return [
        *(_divergence(layer) for layer in names),
        Measure(Column("tuned_layers", "tuned layers", where="csv"), _tuned_layers),
        *_after()[1:2],
    ]


def _divergence(layer: str) -> Measure:
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


def _tuned_layers(runs: Runs) -> Value:
    layers: Iterable[str] = (name for run in runs for name in run.evidence.get("tuned_layers", []))
    return " ".join(dict.fromkeys(layers)) or None


LAYOUTS = {
    "A1": Layout(_attack),
    "A2": Layout(_attack),
    "T1": Layout(_classification, paired=True),
    "T2": Layout(_retrieval),
    "F1": Layout(_identification),
    "F2": Layout(_inversion),
    "T3": Layout(_repair, paired=True),
    "T4": Layout(_repair, paired=True),
    "T5": Layout(_repair, paired=True),
    "F3": Layout(_layers),
    "F4": Layout(lambda _: _after()),
}
OWN = Layout(_repair, paired=True)


def layout_of(experiment: str) -> Layout:
    """Return the layout of an experiment; one's own gets the columns of a repair."""
    return LAYOUTS.get(experiment, OWN)
