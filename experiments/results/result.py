"""``result.json``: built from the stages' files, validated, written at once, read back."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import digest, replacing

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from experiments.stages.store import StageFolder
from experiments.config import result_id

log = logging.getLogger(__name__)

SCHEMA = Path(__file__).with_name("result.schema.json")
FILE = "result.json"
VERSION = 1
HASH = "sha256"
_MODELS = ("clean", "backdoored", "purified")


def build_result(config: Mapping[str, Any], stages: Mapping[str, StageFolder]) -> dict[str, Any]:
    """Return the content of ``result.json``, a function of the stages' files alone.

    Args:
        config: The resolved config.
        stages: ``pretrain``, ``implant``, ``purify``, ``evaluate/clean``,
            ``evaluate/backdoored``, ``evaluate/purified`` and ``inspect``.
    """
    backdoor = stages["implant"].json("backdoor.json")
    defense = stages["purify"].json("defense.json")
    target = backdoor["target_name"]
    found = defense["identification"]
    if found is not None:
        found["correct"] = None if target is None else found["target_label"] == target
    manifests = [stage.manifest for stage in stages.values() if stage.manifest]
    return {
        "schema": VERSION,
        "id": result_id(config),
        "seed": config["seed"],
        "config": dict(config),
        "model": backdoor["model"],
        "data": backdoor["data"],
        "attack": {
            "name": backdoor["name"],
            "target_label": target,
            "poison_rate": config["attack"].get("poison_rate", 0.0),
            "poisoned": len(backdoor["poisoned"]),
            "pairs": len(backdoor["pairs"]),
        },
        "defense": {key: defense[key] for key in ("name", "clean_samples", "knows")},
        "identification": found,
        "inversion": stages["inspect"].json("inversion.json"),
        "scores": {name: stages[f"evaluate/{name}"].json("score.json") for name in _MODELS},
        "seconds": _seconds(stages, defense["seconds"]),
        "peak_memory_mib": max(manifest["peak_memory_mib"] for manifest in manifests),
        "versions": stages["evaluate/purified"].manifest["versions"],
        "stages": {
            role: f"stages/{stage.path.name}"
            for role, stage in stages.items()
            if stage.path is not None
        },
    }


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


@functools.cache
def _validator() -> Validator:
    import jsonschema

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def validate(result: Any) -> None:
    """Compare a result with the schema.

    Raises:
        ValueError: If it differs; names the first place.
    """
    errors = sorted(_validator().iter_errors(result), key=lambda error: list(map(str, error.path)))
    if errors:
        place = "/".join(map(str, errors[0].absolute_path)) or "the file"
        raise ValueError(f"{place}: {errors[0].message[:200]}")


def write_result(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write ``result.json`` below ``folder`` in one step and return its path.

    Raises:
        ValueError: If ``result`` differs from the schema.
    """
    validate(result)
    result = {**result, HASH: digest({k: v for k, v in result.items() if k != HASH})}
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path = folder / FILE
    if path.exists() and path.read_bytes() == text.encode():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return path


def read_result(path: Path) -> dict[str, Any]:
    """Return one result; its hash proves that it is as it was when it was validated and written.

    Raises:
        ValueError: If the file is truncated, of another version, or was edited.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"it is no JSON, or truncated ({error})") from error
    if not isinstance(result, dict) or result.get("schema") != VERSION:
        found = result.get("schema") if isinstance(result, dict) else None
        raise ValueError(f"its schema version is {found}, this program reads {VERSION}")
    if result.get(HASH) != digest({k: v for k, v in result.items() if k != HASH}):
        raise ValueError("it was edited: its hash differs from its content")
    return result


def load_results(runs_dir: Path) -> list[dict[str, Any]]:
    """Return the results of all runs below a folder, by name of the run.

    A file that is truncated, of another version or edited is named in a warning and left out.

    Raises:
        ValueError: If there is no such folder.
    """
    if not runs_dir.is_dir():
        raise ValueError(f"{runs_dir} is not a folder of runs")
    results = []
    for path in sorted(runs_dir.glob(f"*/{FILE}")):
        try:
            results.append(read_result(path))
        except (ValueError, OSError) as error:
            log.warning("%s is left out: %s", path, error)
    return results
