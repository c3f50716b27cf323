"""``result.json``: built from the stages' files, validated, written at once, read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.config import result_id
from experiments.results.agreement import check_agreement
from experiments.sealed import Sealed

if TYPE_CHECKING:
    from experiments.results.content import Detection, ModelFacts, Result
    from experiments.stages.store import StageFolder

SCHEMA = Path(__file__).with_name("result.schema.json")
FILE = "result.json"
VERSION = 1
_MODELS = ("clean", "backdoored", "purified")
_SEALED = Sealed(SCHEMA, VERSION, "schema")


def build_result(config: Mapping[str, Any], stages: Mapping[str, StageFolder]) -> Result:
    """Return the content of ``result.json``, a function of the stages' files alone.

    Args:
        config: The resolved config.
        stages: ``pretrain``, ``implant``, ``purify``, ``evaluate/clean``,
            ``evaluate/backdoored``, ``evaluate/purified`` and ``inspect``; ``detect`` of a run with
            a detector.
    """
    backdoor = stages["implant"].json("backdoor.json")
    defense = stages["purify"].json("defense.json")
    target = backdoor["target_name"]
    found = defense["identification"]
    if found is not None:
        named = [found["target_label"], *found["alike"]]
        found["correct"] = None if target is None else target in named
    detection = stages["detect"].json("detection.json") if "detect" in stages else None
    manifests = [stage.manifest for stage in stages.values() if stage.manifest]
    result: Result = {
        "schema": VERSION,
        "id": result_id(config),
        "seed": config["seed"],
        "config": dict(config),
        "model": _model(backdoor["model"], config["model"], stages["pretrain"]),
        "data": backdoor["data"],
        "attack": {
            "name": backdoor["name"],
            "target_label": target,
            "poison_rate": config["attack"].get("poison_rate", 0.0),
            "poisoned": len(backdoor["poisoned"]),
            "pairs": len(backdoor["pairs"]),
        },
        "defense": {
            "name": defense["name"],
            "clean_samples": defense["clean_samples"],
            "knows": defense["knows"],
            "peak_memory_mib": max(
                stage.manifest["peak_memory_mib"]
                for role, stage in stages.items()
                if role.split("/")[0] == "purify" and stage.manifest
            ),
        },
        "identification": found,
        "verdict": defense["verdict"],
        "inversion": stages["inspect"].json("inversion.json"),
        "scores": {name: stages[f"evaluate/{name}"].json("score.json") for name in _MODELS},
        "seconds": _seconds(stages, defense["seconds"]) | _steps(detection),
        "peak_memory_mib": max(manifest["peak_memory_mib"] for manifest in manifests),
        "versions": stages["evaluate/purified"].manifest["versions"],
        "stages": {
            role: f"stages/{stage.path.name}"
            for role, stage in stages.items()
            if stage.path is not None
        },
    }
    if "steps" in defense:  # which a repair that was kept from before they were counted has not
        result["defense"]["steps"] = defense["steps"]
    if detection is not None:
        told = {key: value for key, value in detection.items() if key != "seconds"}
        told["peak_memory_mib"] = stages["detect"].manifest["peak_memory_mib"]
        result["detection"] = cast("Detection", told)
    return result


def _steps(detection: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the time of each step of the detector."""
    steps: Mapping[str, float] = {} if detection is None else detection["seconds"]
    return {f"detect/{step}": value for step, value in steps.items()}


def _model(facts: ModelFacts, config: Mapping[str, Any], pretrain: StageFolder) -> ModelFacts:
    """Return the model's facts with where its clean weights are from; nothing for random ones."""
    if pretrain.path is not None:
        return {**facts, "pretrained": pretrain.json("pretrained.json")["source"]}
    if config.get("path"):
        return {**facts, "pretrained": "file"}
    return {**facts, "pretrained": "open_clip"} if config.get("weights") else facts


def _seconds(stages: Mapping[str, StageFolder], steps: Mapping[str, float]) -> dict[str, float]:
    """Return the time of each stage when it was made, and of each step of the defense."""
    seconds: dict[str, float] = {}
    counted: set[Path | None] = set()
    for role, stage in stages.items():
        if stage.path is not None and stage.path in counted:
            continue  # without a defense, the repaired model's score is the backdoored one's
        counted.add(stage.path)
        name = role.split("/")[0]
        seconds[name] = seconds.get(name, 0.0) + stage.manifest.get("seconds", 0.0)
    return {**seconds, **{f"purify/{step}": value for step, value in steps.items()}}


def validate(result: object) -> None:
    """Compare a result with the schema.

    Raises:
        ValueError: If it differs; names the first place.
    """
    _SEALED.check(result)


def write_result(folder: Path, result: Result) -> Path:
    """Write ``result.json`` below ``folder`` in one step and return its path.

    Raises:
        ValueError: If ``result`` differs from the schema.
    """
    path = folder / FILE
    _SEALED.write(path, result)
    return path


def read_result(path: Path) -> Result:
    """Return one result; its hash proves that it is as it was when it was written.

    Raises:
        ValueError: If the file is truncated, of another version, was edited, or differs from the
            schema, ranges included, or if it says one thing twice and not the same.
    """
    result = _SEALED.read(path)
    check_agreement(result)
    return cast("Result", result)
