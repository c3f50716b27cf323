"""A model of a run, as one folder for others: ``invertune export RUN BUNDLE``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.bundles.bundle import CARD, FILES, WEIGHTS
from experiments.bundles.card import SEALED, VERSION, Card, Part
from experiments.bundles.rebuild import build_model, check_config, describe_model, model_config
from experiments.bundles.whole import whole_folder
from experiments.config import placeless
from experiments.files import Fingerprint, fingerprint, read_json
from experiments.results.measures import lookup
from experiments.results.result import FILE, read_result
from experiments.results.runs import Run
from experiments.stages.data import without_places
from experiments.stages.manifest import MANIFEST

# Model of a run -> the stage that made it, and the stage's file that says what was added to it.
_STAGES = {"backdoored": ("implant", "backdoor.json"), "purified": ("purify", "defense.json")}
MODELS = tuple(_STAGES)


@dataclass(frozen=True)
class _Stage:
    """A stage of a run on this machine.

    Attributes:
        folder: Where it is.
        files: Name -> SHA-256 and size, as they were when it was made.
    """

    folder: Path
    files: Mapping[str, Fingerprint]

    def file(self, name: str) -> Path:
        path = self.folder / name
        if name not in self.files or fingerprint(path) != self.files[name]:
            raise ValueError(
                f"{path} is damaged: it is not as {MANIFEST} has it; the same invertune run "
                "makes it again"
            )
        return path

    def json(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.file(name).read_text(encoding="utf-8")))


def write_bundle(run: Path, folder: Path, model: str = "backdoored") -> Path:
    """Write a model of a run as a bundle, whole or not at all, and return its folder.

    Args:
        run: Folder of the run, or its ``result.json``.
        folder: The bundle's; it must not hold anything.
        model: ``backdoored`` or ``purified``.

    Raises:
        ValueError: If ``folder`` holds something, or if the run has no such model, no result, or
            its stages are damaged or not on this machine.
        OSError: If the folder cannot be written.
    """
    if model not in MODELS:
        raise ValueError(f"model is one of {', '.join(MODELS)}, got {model!r}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} exists already; a bundle goes into a new or an empty folder")
    path = run if run.name == FILE else run / FILE
    measured = _read_run(path)
    role, note = _STAGES[model]
    implant, made = _stage(measured, "implant"), _stage(measured, role)
    files = {name: implant.file(name) for name in FILES if name in implant.files}
    files[WEIGHTS] = made.file(WEIGHTS)
    graft = made.json(note).get("graft")
    card = _card(measured, model, implant.json("backdoor.json"), graft, files)
    SEALED.check(card)
    _write(folder, card, files)
    return folder


def _read_run(path: Path) -> Run:
    if not path.is_file():
        raise ValueError(f"{path.parent} is no folder of a complete run: it has no {FILE}")
    try:
        return Run(path.resolve().parent, read_result(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _stage(run: Run, role: str) -> _Stage:
    folder = run.stage(role)
    try:
        manifest = read_json(folder / MANIFEST)
        return _Stage(folder, dict(manifest["files"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"the stage {role} of {run.folder} is not on this machine: no {MANIFEST} in {folder}; "
            "the same invertune run makes it again"
        ) from error


def _card(
    run: Run,
    model: str,
    backdoor: Mapping[str, Any],
    graft: Mapping[str, Any] | None,
    files: Mapping[str, Path],
) -> Card:
    result, config, target = run.result, run.config, backdoor["target_label"]
    # What cannot be built from a card is found now.
    check_config(model_config(config["model"]), "model", "invertune.clip.")
    check_config(config["data"], "data", "invertune.data.")
    built = build_model(config["model"], graft, files[WEIGHTS], run.seed)
    parts = {part: Part(name=run.name(part), config=config[part]) for part in ("attack", "defense")}
    return {
        "version": VERSION,
        "model": model,
        "architecture": placeless(config["model"]),  # paths are nobody else's business
        **describe_model(built),
        "attack": parts["attack"],
        "graft": graft,
        "target": None if target is None else {"name": backdoor["target_name"], "index": target},
        "seed": run.seed,
        "data": without_places(config["data"]),
        "defense": parts["defense"] if model == "purified" else None,
        "evaluation": {"part": "zero_shot", **config["evaluation"]},
        "measured": lookup(result["scores"], f"{model}/zero_shot"),
        "run": run.id,
        "versions": result["versions"],
        "files": {name: fingerprint(path) for name, path in files.items()},
    }


def _write(folder: Path, card: Card, files: Mapping[str, Path]) -> None:
    with whole_folder(folder, (*FILES, CARD)) as partial:
        for name, path in files.items():
            shutil.copyfile(path, partial / name)
        SEALED.write(partial / CARD, card)
        for path in partial.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
