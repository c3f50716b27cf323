"""Which numbers of a run or of a study go into which diagram of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.figures.colors import ALARM, COLORS, PLAIN, REPAIRED
from experiments.figures.scales import color_range
from experiments.figures.study import Study
from experiments.report import charts, share_charts
from experiments.report.charts import Series
from experiments.results.measures import MODELS

_BARS = ("CA", "ASR", "own class", "R@1 image to text", "retrieval ASR@1")
_MODELS = dict(zip(MODELS, (PLAIN, ALARM, REPAIRED), strict=True))
_CLASSES = 6


def before_after(rates: Mapping[str, Mapping[str, Any]]) -> str:
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


def frequencies(title: str, evidence: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return step 1 as bars: how often the classes with the largest gains are predicted.

    Args:
        title: What the diagram shows.
        evidence: Content of ``evidence.json``, with an identification.
        names: Class names, or none where they are not known.
    """
    found = evidence["identification"]
    panels = {}
    for vote in found["votes"]:
        clean, perturbed = vote["clean_frequency"], vote["perturbed_frequency"]
        gain = [after - before for after, before in zip(perturbed, clean, strict=True)]
        order = sorted(range(len(gain)), key=lambda label: -gain[label])[:_CLASSES]
        panels[f"{vote['generator']} (weight {vote['weight']:.3g})"] = [
            (
                names[label] if len(names) == len(gain) else f"class {label}",
                (clean[label], perturbed[label]),
                f"{100 * gain[label]:+.1f}",
                label == found["target_label"],
            )
            for label in order
        ]
    return charts.ranked_bars(title, panels, [("clean", PLAIN), ("perturbed", ALARM)])


def divergence(title: str, evidence: Mapping[str, Any], top: float | None = None) -> str:
    """Return the activation divergence of every layer as bars; the tuned ones stand out.

    Args:
        title: What the diagram shows.
        evidence: Content of ``evidence.json``, with divergences.
        top: Upper end of the axis, for diagrams to be compared; from the values if None.
    """
    layers: Mapping[str, float] = evidence["divergence"]
    tuned = set(evidence.get("tuned_layers", []))
    chosen = [value if layer in tuned else None for layer, value in layers.items()]
    others = [None if layer in tuned else value for layer, value in layers.items()]
    series = [Series("tuned", REPAIRED, chosen), Series("left as it is", PLAIN, others)]
    top = 1.05 * max(layers.values()) if top is None else top
    return charts.bars(title, list(layers), series, top=top or 1.0, digits=2, overlay=True)


def losses(curves: Mapping[str, Sequence[float]]) -> str:
    """Return loss curves by their names, one number per step."""
    return charts.curves("Losses over the steps", curves)


def sensitivity(study: Study) -> list[str]:
    """Return CA and ASR after the defense, by turns, over a study's parameters."""
    drawn = []
    for named, measures in study.panels().items():
        for measure, cells in measures.items():
            title = f"{measure}, %" + (f" ({named})" if named else "")
            if len(study.keys) == 1:
                at = [place[0] for place in cells]
                shares = list(cells.values())
                line = Series(measure, COLORS[measure], [value for value, _ in shares],
                              [bounds for _, bounds in shares])  # fmt: skip
                drawn.append(
                    share_charts.lines(title, study.names[0], at, [line], default=study.defaults[0])
                )
            else:
                drawn.append(
                    share_charts.heat_map(
                        title,
                        (study.names[0], study.names[1]),
                        (study.values(0), study.values(1)),
                        {(at[0], at[1]): cell for at, cell in cells.items()},
                        color=COLORS[measure],
                        ends=color_range(study.shares(measure)),
                        default=(study.defaults[0], study.defaults[1]),
                    )
                )
    return drawn
