"""One model, measured on the zero-shot and the retrieval part of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from evaluation.intervals import Rate
from evaluation.retrieval import RetrievalScores, evaluate_retrieval
from evaluation.zero_shot import Predictions, Trigger, evaluate_zero_shot
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle


class Scores(TypedDict):
    """What is measured on one model, in the form of `result.json`."""

    zero_shot: dict[str, Rate | None]
    retrieval: RetrievalScores


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and the predictions that paired tests compare."""

    scores: Scores
    predictions: Predictions


def evaluate(
    model: CLIP,
    data: DataBundle,
    trigger: Trigger | None,
    target_label: int | None,
    batch_size: int = 256,
) -> Evaluation:
    """Measure a model on the zero-shot and the retrieval part.

    Args:
        model: Put into evaluation mode.
        data: The test images.
        trigger: Stamps images; None for a model without a backdoor.
        target_label: Class that triggered images are pulled to; None likewise.
        batch_size: Images at a time.

    Raises:
        ValueError: If only one of trigger and target is given, or the target is no class.
    """
    predicted = evaluate_zero_shot(
        model, data.zero_shot, data.prompts, data.templates, trigger, target_label, batch_size
    )
    target_name = None if target_label is None else data.class_names[target_label]
    retrieval = evaluate_retrieval(
        model, data.retrieval, trigger, target_name, batch_size, data.class_names, data.plurals
    )
    return Evaluation(
        {"zero_shot": predicted.rates(target_label), "retrieval": retrieval}, predicted
    )
