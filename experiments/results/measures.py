"""What is measured of a run, and where its numbers stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.intervals import Rate
from evaluation.statistics import WILSON, Estimate
from experiments.results.content import Result

MODELS = ("clean", "backdoored", "purified")


# Title -> where the rate stands in a score; also the key in W&B.
MEASURES = {
    "CA": "zero_shot/ca",
    "ASR": "zero_shot/asr",
    "target rate": "zero_shot/target_rate",
    "own class": "zero_shot/own_class",
    "R@1 image to text": "retrieval/image_to_text/r@1",
    "R@1 text to image": "retrieval/text_to_image/r@1",
    "retrieval ASR@1": "retrieval/asr/r@1",
}


def lookup(tree: object, path: str) -> Any:
    """Return what stands at ``a/b/c``, or None where the way ends early."""
    for key in path.split("/"):
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def rate_of(result: Result, model: str, measure: str) -> Rate | None:
    """Return what was measured of one of `MODELS`, such as ``zero_shot/ca``; None if it was not."""
    rate: Rate | None = lookup(result["scores"].get(model), measure)
    return rate


def share(result: Result, model: str, measure: str) -> float | None:
    """Return one measured share, in [0, 1]."""
    rate = rate_of(result, model, measure)
    return None if rate is None else float(rate["value"])


def estimate_of(result: Result, model: str, measure: str) -> Estimate | None:
    """Return one measured share with its interval; None if it was not measured."""
    rate = rate_of(result, model, measure)
    if rate is None:
        return None
    return Estimate(rate["value"], rate["low"], rate["high"], n=rate["n"], interval=WILSON)


def total_seconds(result: Result) -> float:
    """Return the time of all stages, without their steps, which are parts of them."""
    return float(sum(value for name, value in result["seconds"].items() if "/" not in name))


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"
