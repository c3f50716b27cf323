"""What the table of each of the paper's experiments shows, and the numbers that the paper gives."""

from __future__ import annotations

from evaluation.statistics import Estimate, counted
from experiments.results.runs import Run
from experiments.tables.columns import (
    Layout,
    Measure,
    Runs,
    best_form,
    ca_loss,
    divergence_of,
    found_number,
    frequency_of,
    gain_of,
    joined,
    named_classes,
    per_seed,
    share_of,
    target_found,
    tuned_layers,
    votes_of,
)
from experiments.tables.grid import Column
from experiments.tables.paper import paper_gain, paper_rate


def _after() -> list[Measure]:
    return [
        share_of("ca_after", "CA after", "purified", "zero_shot/ca", best="highest"),
        share_of("asr_after", "ASR after", "purified", "zero_shot/asr", best="lowest"),
        share_of("own_class_after", "own class after", "purified", "zero_shot/own_class"),
    ]


def _repair(_: Runs) -> list[Measure]:
    ca_after, asr_after, own_class_after = _after()
    return [
        share_of("ca_clean", "CA clean", "clean", "zero_shot/ca"),
        share_of("ca_before", "CA before", "backdoored", "zero_shot/ca"),
        ca_after,
        share_of("asr_before", "ASR before", "backdoored", "zero_shot/asr"),
        asr_after,
        own_class_after,
        target_found(),
    ]


def _attack(_: Runs) -> list[Measure]:
    """Return the columns of an attack before any defense."""
    return [
        share_of("ca_clean", "CA clean", "clean", "zero_shot/ca"),
        share_of("ca", "CA", "backdoored", "zero_shot/ca"),
        share_of("asr", "ASR", "backdoored", "zero_shot/asr"),
        share_of("target_rate", "target rate", "backdoored", "zero_shot/target_rate"),
        share_of("own_class", "own class", "backdoored", "zero_shot/own_class"),
        share_of("retrieval_asr_r1", "retrieval ASR@1", "backdoored", "retrieval/asr/r@1"),
    ]


def _classification(runs: Runs) -> list[Measure]:
    return [
        *_repair(runs),
        paper_rate("asr_after", "paper: ASR after, %", optional=False),
        ca_loss(),
        paper_rate("ca_loss", "paper: CA loss, points"),
    ]


def _retrieval(_: Runs) -> list[Measure]:
    measures = []
    for way, arrow in (("image_to_text", "image to text"), ("text_to_image", "text to image")):
        for when, model in (("before", "backdoored"), ("after", "purified")):
            best = "highest" if when == "after" else ""
            path = f"retrieval/{way}"
            measures += [
                share_of(
                    f"{way}_r1_{when}", f"R@1 {arrow} {when}", model, f"{path}/r@1", best=best
                ),
                *(
                    share_of(f"{way}_r{k}_{when}", f"R@{k}", model, f"{path}/r@{k}", where="csv")
                    for k in (5, 10)
                ),
                joined(f"R@5, R@10 {arrow} {when}", model, [f"{path}/r@5", f"{path}/r@10"]),
            ]
    asr = "retrieval/asr/r@1"
    return [
        *measures,
        share_of("retrieval_asr_before", "retrieval ASR@1 before", "backdoored", asr),
        share_of("retrieval_asr_after", "retrieval ASR@1 after", "purified", asr, best="lowest"),
        paper_rate("retrieval_asr_after", "paper: retrieval ASR after, %", optional=False),
        paper_rate("recall_kept", "paper: retrieval score kept, %"),
    ]


def _identification(runs: Runs) -> list[Measure]:
    generators = dict.fromkeys(vote["generator"] for run in runs for vote in votes_of(run))
    measures = [
        Measure(Column("found", "class found"), lambda runs: named_classes(runs, "target_label")),
        target_found(),
        gain_of("gain", "gain, points"),
        Measure(Column("runner_up", "runner-up"), lambda runs: named_classes(runs, "runner_up")),
        gain_of("runner_up_gain", "its gain, points"),
        paper_gain(),
    ]
    for name in generators:
        measures += [
            frequency_of(name, "clean_frequency", f"p_clean_{name}", f"P_clean, {name}"),
            frequency_of(name, "perturbed_frequency", f"p_adv_{name}", f"P_adv, {name}"),
        ]
    return measures


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
        share_of("asr_before", "ASR of the true trigger", "backdoored", "zero_shot/asr"),
        per_seed(Column("asr_inverted", "ASR of the inverted", form="percent", interval=True), asr),
        Measure(Column("form", "its form"), best_form),
        found_number("mask_share", "its area, %", "percent"),
        found_number("embedding_cosine", "cosine of embeddings", "number"),
        *(found_number(key, key.replace("_", " "), "number") for key in more),
        target_found(),
    ]


def _layers(runs: Runs) -> list[Measure]:
    names = dict.fromkeys(layer for run in runs for layer in run.evidence.get("divergence", {}))
    return [
        *(divergence_of(layer) for layer in names),
        Measure(Column("tuned_layers", "tuned layers", where="csv"), tuned_layers),
        *_after()[1:2],
    ]


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
