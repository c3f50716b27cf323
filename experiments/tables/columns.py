"""The columns that an experiment's table may have, by the names that its YAML lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from evaluation.statistics import SHARE, UNBOUNDED, Estimate, over_seeds
from experiments.results.measures import estimate_of
from experiments.results.runs import Run
from experiments.tables import costs, detection, steps
from experiments.tables.grid import Best, Column, Value
from experiments.tables.measure import Measure, Runs, per_seed


class Share(NamedTuple):
    """A measured share of one model.

    Attributes:
        title: Of its column.
        model: One of `MODELS`.
        measure: Where its rate stands in a score.
        best: ``lowest`` or ``highest`` where one is better than another.
    """

    title: str
    model: str
    measure: str
    best: Best = ""

    def read(self, run: Run) -> Estimate | None:
        """Return it with its interval; None if it was not measured."""
        return estimate_of(run.result, self.model, self.measure)


_ASR_AT_1 = "retrieval/asr/r@1"
SHARES = {
    "ca_clean": Share("CA clean", "clean", "zero_shot/ca"),
    "ca_before": Share("CA before", "backdoored", "zero_shot/ca"),
    "ca_after": Share("CA after", "purified", "zero_shot/ca", "highest"),
    "asr_before": Share("ASR before", "backdoored", "zero_shot/asr"),
    "asr_after": Share("ASR after", "purified", "zero_shot/asr", "lowest"),
    "target_rate_before": Share("target rate before", "backdoored", "zero_shot/target_rate"),
    "own_class_before": Share("own class before", "backdoored", "zero_shot/own_class"),
    "own_class_clean": Share("own class clean", "clean", "zero_shot/own_class"),
    "own_class_after": Share("own class after", "purified", "zero_shot/own_class"),
    "r1_before": Share("R@1 before", "backdoored", "retrieval/image_to_text/r@1"),
    "r1_after": Share("R@1 after", "purified", "retrieval/image_to_text/r@1", "highest"),
    "retrieval_asr_before": Share("retrieval ASR@1 before", "backdoored", _ASR_AT_1),
    "retrieval_asr_after": Share("retrieval ASR@1 after", "purified", _ASR_AT_1, "lowest"),
    # Of an attack without any defense, where nothing is before or after.
    "ca": Share("CA", "backdoored", "zero_shot/ca"),
    "asr": Share("ASR", "backdoored", "zero_shot/asr"),
    "target_rate": Share("target rate", "backdoored", "zero_shot/target_rate"),
    "own_class": Share("own class", "backdoored", "zero_shot/own_class"),
    "retrieval_asr_r1": Share("retrieval ASR@1", "backdoored", _ASR_AT_1),
}


def share_of(name: str, share: Share, where: Literal["all", "csv"] = "all") -> Measure:
    """Return the column of a share, with intervals."""
    column = Column(name, share.title, "percent", interval=True, best=share.best, where=where)
    return per_seed(column, share.read)


def ca_loss() -> Measure:
    """Return how much CA the defense costs."""

    column = Column("ca_loss", "CA loss", form="points", interval=True, bracket=False)
    return per_seed(column, costs.ca_loss_of, UNBOUNDED)


def recall(_: Runs) -> list[Measure]:
    """Return recall at 1, 5 and 10, both ways, before and after."""
    measures = []
    for way, arrow in (("image_to_text", "image to text"), ("text_to_image", "text to image")):
        for when, model in (("before", "backdoored"), ("after", "purified")):
            place = f"retrieval/{way}/r@"
            best: Best = "highest" if when == "after" else ""
            first = Share(f"R@1 {arrow} {when}", model, f"{place}1", best)
            others = [Share(f"R@{k}", model, f"{place}{k}") for k in (5, 10)]
            measures += [
                share_of(f"{way}_r1_{when}", first),
                *(
                    share_of(f"{way}_r{k}_{when}", share, "csv")
                    for k, share in zip((5, 10), others, strict=True)
                ),
                _joined(f"R@5, R@10 {arrow} {when}", others),
            ]
    return measures


def _joined(title: str, shares: Sequence[Share]) -> Measure:
    """Return means side by side: the whole of recall at every k would not fit on a page."""

    def read(runs: Runs) -> Value:
        means = [over_seeds([share.read(run) for run in runs]) for share in shares]
        return ", ".join("-" if mean is None else f"{100 * mean.value:.1f}" for mean in means)

    return Measure(Column(title, title, where="text"), read)


# Name -> a column of its own.
SINGLE: Mapping[str, Measure] = {
    **{name: share_of(name, share) for name, share in SHARES.items()},
    "ca_loss": ca_loss(),
    "clean_samples": costs.cost("clean_samples", "clean images", "defense/clean_samples"),
    "steps": costs.cost("steps", "steps", "defense/steps", csv=True),
    "purify_seconds": costs.cost("purify_seconds", "repair, s", "seconds/purify", "seconds"),
    "peak_memory_mib": costs.cost("peak_memory_mib", "MiB", "defense/peak_memory_mib"),
    "knows": costs.knows(),
    "verdict": steps.verdict(),
    "target_found": steps.target_found(),
    "found": steps.named_class("target_label", "found", "class found"),
    "gain": steps.gain_of("gain", "gain or lead, points"),
    "runner_up": steps.named_class("runner_up", "runner_up", "runner-up"),
    "runner_up_gain": steps.gain_of("runner_up_gain", "its gain or lead, points"),
    "asr_inverted": steps.asr_inverted(),
    "form": steps.best_form(),
    "mask_share": steps.inverted("mask_share", "its area, %", "percent", SHARE),
    "embedding_cosine": steps.inverted(
        "embedding_cosine", "cosine of embeddings", "number", (-1.0, 1.0)
    ),
    "tuned_layers": steps.tuned_layers(),
    "detector": detection.detector(),
    "detected": detection.detected(),
    "flagged": detection.flagged(),
    "detection_score": detection.number("score", "detection_score", "score", "number"),
    "detection_threshold": detection.number(
        "threshold", "detection_threshold", "threshold", "number"
    ),
    "poisoned_share": detection.poisoned_share(),
    "auroc": detection.auroc(),
    "average_precision": detection.number(
        "average_precision", "average_precision", "average precision", "percent"
    ),
    "fpr_at_95_tpr": detection.number(
        "fpr_at_95_tpr", "fpr_at_95_tpr", "FPR at 95 % TPR", "percent"
    ),
}
# Name -> columns that depend on what the runs have.
GROUPS: Mapping[str, Callable[[Runs], list[Measure]]] = {
    "recall": recall,
    "frequencies": steps.frequencies,
    "inversion_numbers": steps.other_numbers,
    "divergence": steps.divergence,
    "harm": costs.harm,
}
