"""What a detector says of the backdoored model, or of the pairs that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.stages.artifacts import DETECTION, SUSPICION, write_json
from experiments.stages.data import further
from experiments.stages.keys import Planner, Stage
from experiments.stages.parts import build, implant_inputs
from experiments.stages.store import CHECKPOINT

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.stages.parts import Parts
    from experiments.stages.store import StageFolder
    from invertune.detector import Detector, ModelDetector, PairDetector


def stage(planner: Planner, backdoored: Stage) -> Stage | None:
    """Return the stage; None for a run without a detector."""
    detector = planner.config.get("detector")
    if detector is None:
        return None
    config = {**detector, **further(planner.config["data"], "clean")}
    inputs = {"model": backdoored, **implant_inputs(backdoored)}
    return planner.stage("detect", config, inputs, _produce)


def check(parts: Parts) -> None:
    """Compare what the detector needs with what there is, before the long work.

    Raises:
        ValueError: If it needs something that there is not.
    """
    from invertune.detector import check_detector

    if parts.config.get("detector") is not None:
        plan, data = parts.attack.plan(parts.data), parts.data
        detector = _detector(parts)
        check_detector(detector, data, poisoned_pairs=plan.gives_pairs, pairs=plan.pairs)


def _detector(parts: Parts) -> Detector:
    detector: Detector = build(parts.config["detector"])
    return detector


def _produce(parts: Parts, made: Mapping[str, StageFolder], folder: Path) -> None:
    from invertune.detector import PairDetector

    parts.seed_everything()
    detector = _detector(parts)
    if isinstance(detector, PairDetector):
        found = _of_pairs(detector, parts, made, folder)
    else:
        found = _of_model(detector, parts, made, folder)
    card = {
        "name": detector.name,
        "needs": detector.needs,
        "clean_samples": detector.clean_samples,
        "knows": detector.knows,
    }
    write_json(folder / DETECTION, {**card, **found})


def _of_model(
    detector: ModelDetector, parts: Parts, made: Mapping[str, StageFolder], folder: Path
) -> dict[str, object]:
    from invertune.detector import check_text, given_to_detector

    model = parts.load(made["model"])
    clean = given_to_detector(detector, parts.data, lambda: parts.origin(made))
    check_text(detector, model)
    found = detector.detect(model, clean, seed=parts.seed, checkpoint=folder / CHECKPOINT)
    found.evidence.save(folder)
    told = {"score": found.score, "threshold": found.threshold, "flagged": found.flagged}
    return {"of": "model", **told, "seconds": found.evidence.seconds}


def _of_pairs(
    detector: PairDetector, parts: Parts, made: Mapping[str, StageFolder], folder: Path
) -> dict[str, object]:
    """Score the pairs, and only then look at which of them are poisoned."""
    import numpy as np
    import torch

    from invertune.detector import check_text
    from invertune.evidence import Evidence

    model, poisoned = parts.load(made["model"]), parts.poisoned(made)
    check_text(detector, model)
    scores = detector.scores(model, poisoned.pairs, seed=parts.seed)
    true = torch.zeros(len(scores), dtype=torch.bool)
    true[poisoned.positions] = True
    np.savez_compressed(folder / SUSPICION, scores=scores.numpy(), poisoned=true.numpy())
    Evidence().save(folder)
    return {"of": "pairs", **_compared(scores, true), "seconds": {}}


def _compared(scores: Tensor, true: Tensor) -> dict[str, object]:
    """Return how well scores tell poisoned pairs; nothing of a set that has none, or no other."""
    from evaluation.detection import separation

    count, poisoned = len(true), int(true.sum())
    told: dict[str, object] = {"pairs": count, "poisoned": poisoned}
    if poisoned in (0, count):
        return {**told, "auroc": None, "average_precision": None, "fpr_at_95_tpr": None}
    found = separation(scores.numpy(), true.numpy())
    area = {"value": found.auroc.value, "low": found.auroc.low, "high": found.auroc.high}
    return {
        **told,
        "auroc": {**area, "n": count},
        "average_precision": found.average_precision,
        "fpr_at_95_tpr": found.fpr_at_95_tpr,
    }
