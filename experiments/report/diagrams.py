"""Which numbers of a run go into which diagram of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.intervals import Rate
from experiments.figures.colors import ALARM, PLAIN, REPAIRED
from experiments.report import charts
from experiments.report.charts import Series
from experiments.results.measures import MODELS
from experiments.results.runs import Run

_BARS = ("CA", "ASR", "own class", "R@1 image to text", "retrieval ASR@1")
_MODELS = dict(zip(MODELS, (PLAIN, ALARM, REPAIRED), strict=True))
_CLASSES = 6


def before_after(rates: Mapping[str, Mapping[str, Rate | None]]) -> str:
    """Return the rates of the three models as bars with intervals.

    Args:
        rates: Measure -> model (``clean``, ``backdoored``, ``purified``) -> rate, None where it
            was not measured.
    """
    series = []
    for model, color in _MODELS.items():
        found = [rates[name].get(model) for name in _BARS]
        values = [None if rate is None else 100 * rate["value"] for rate in found]
        bounds = [None if rate is None else (100 * rate["low"], 100 * rate["high"])
                  for rate in found]  # fmt: skip
        series.append(Series(model, color, values, bounds))
    return charts.bars("Before and after", _BARS, series, top=100, unit="%")


def frequencies(title: str, run: Run) -> str:
    """Return step 1 as bars: how often the classes with the largest gains are predicted.

    Args:
        title: What the diagram shows.
        run: One whose defense has voted.
    """
    names = run.class_names
    panels = {}
    for vote in run.votes:
        clean, perturbed = vote["clean_frequency"], vote["perturbed_frequency"]
        gain = [after - before for after, before in zip(perturbed, clean, strict=True)]
        order = sorted(range(len(gain)), key=lambda label: -gain[label])[:_CLASSES]
        panels[f"{vote['generator']} (weight {vote.get('weight', 1):.3g})"] = [
            (
                names[label] if len(names) == len(gain) else f"class {label}",
                (clean[label], perturbed[label]),
                f"{100 * gain[label]:+.1f}",
                label == run.found_label,
            )
            for label in order
        ]
    return charts.ranked_bars(title, panels, [("clean", PLAIN), ("perturbed", ALARM)])


def divergence(title: str, run: Run, top: float | None = None) -> str:
    """Return the activation divergence of every layer as bars; the chosen ones stand out.

    Args:
        title: What the diagram shows.
        run: One with divergences.
        top: Upper end of the axis, for diagrams to be compared; from the values if None.
    """
    layers, tuned = run.divergence, set(run.tuned_layers)
    chosen = [value if layer in tuned else None for layer, value in layers.items()]
    others = [None if layer in tuned else value for layer, value in layers.items()]
    series = [Series("chosen", REPAIRED, chosen), Series("not chosen", PLAIN, others)]
    top = 1.05 * max(layers.values()) if top is None else top
    return charts.bars(title, list(layers), series, top=top or 1.0, digits=2, overlay=True)


def losses(curves: Mapping[str, Sequence[float]]) -> str:
    """Return loss curves by their names, one number per step."""
    return charts.curves("Losses over the steps", curves)
