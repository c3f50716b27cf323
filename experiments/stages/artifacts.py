"""The files that stages leave."""

from __future__ import annotations

import json
from pathlib import Path

WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.npz"
LOSSES = "losses.json"
PRETRAINED = "pretrained.json"
BACKDOOR = "backdoor.json"
DEFENSE = "defense.json"
EVIDENCE = "evidence.json"
DETECTION = "detection.json"
SUSPICION = "suspicion.npz"  # of every pair, and which are poisoned
SCORE = "score.json"
INVERSION = "inversion.json"
PICTURES = "pictures"


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON."""
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
