"""What the stages of a run left, as readers take it: what is not as it should be is left out.

Folders of runs come from other machines and people; one bad file of one run must neither end a
command nor be believed.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import read_json
from experiments.schema import Test, quick

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_NO_PREDICTION = -1
_LARGEST = 64 * 2**20  # bytes of predictions
_LARGEST_JSON = 4 * 2**20  # bytes; curves of a hundred thousand steps take half of it
_NUMBER = {"type": "number", "minimum": -1e12, "maximum": 1e12}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1.001}  # means of float32 may round up
_COUNT = {"type": "integer", "minimum": 0, "maximum": 1 << 53}
_VOTE = {
    "type": "object",
    "required": ["generator", "clean_frequency", "perturbed_frequency"],
    "properties": {
        "generator": {"type": "string"},
        "clean_frequency": {"type": "array", "items": _SHARE},
        "perturbed_frequency": {"type": "array", "items": _SHARE},
        "weight": _NUMBER,
    },
}
_SURVIVAL = {
    "type": "object",
    "required": ["form", "budgets", "classes", "success", "pull"],
    "properties": {
        "form": {"type": "string"},
        "budgets": {"type": "array", "items": _SHARE},
        "classes": {"type": "array", "items": {"type": "array", "items": _COUNT}},
        "success": {"type": "array", "items": {"type": "array", "items": _SHARE}},
        "pull": {"type": "array", "items": {"type": "array", "items": _NUMBER}},
    },
}
# What readers know by name; whatever else a defense found is its own.
_FINDINGS: Mapping[str, Test] = {
    "identification": quick(
        {
            "type": ["object", "null"],
            "properties": {
                "target_label": _COUNT,
                "votes": {"type": "array", "items": _VOTE},
                "survival": {"type": "array", "items": _SURVIVAL},
                "again": {"type": "array", "items": _SURVIVAL},
            },
        }
    ),
    "divergence": quick({"type": "object", "additionalProperties": _NUMBER}),
    "tuned_layers": quick({"type": "array", "items": {"type": "string"}}),
    "neurons": quick(
        {"type": "object", "additionalProperties": {"type": "array", "items": _COUNT}}
    ),
    "curves": quick(
        {"type": "object", "additionalProperties": {"type": "array", "items": _NUMBER}}
    ),
}
_LOSSES = quick({"type": "array", "items": _NUMBER})


@dataclass(frozen=True)
class Predictions:
    """Which test images a purified model gets right, and which ones its backdoor gets.

    Attributes:
        labels: (N,) true classes, which say whether two runs saw the same images.
        correct: (N,) clean images predicted as their own class.
        hit: (N,) triggered images predicted as the target; False for images of the target class.
            None without a trigger.
    """

    labels: NDArray[np.int32]
    correct: NDArray[np.bool_]
    hit: NDArray[np.bool_] | None

    def same_images(self, other: Predictions) -> bool:
        """Return whether both are of the same test images, as far as labels tell."""
        import numpy as np

        return bool(np.array_equal(self.labels, other.labels))


def stage_folder(runs_dir: Path, name: str) -> Path:
    """Return the folder of a stage; it may not be there.

    Args:
        runs_dir: Folder of runs.
        name: Of the stage's folder, and no way to another place.

    Raises:
        ValueError: If it is one.
    """
    if re.fullmatch(r"[^./\\][^/\\]*", name) is None or not name.isprintable():
        raise ValueError(f"a stage is a folder's name, such as implant-0123456789abcdef; {name!r}")
    return runs_dir / "stages" / name


def read_evidence(path: Path) -> Mapping[str, Any]:
    """Return what a defense found, without what is not as readers take it; empty for no file."""
    found = read_or_warn(path)
    if not isinstance(found, dict):
        return {}
    wrong = [name for name, fits in _FINDINGS.items() if name in found and not fits(found[name])]
    if "identification" not in wrong and not _agree(found.get("identification") or {}):
        wrong.append("identification")
    for name in wrong:
        log.warning("%s: %s is left out: it is not as InverTune writes it", path, name)
    return {name: value for name, value in found.items() if name not in wrong}


def _agree(identification: Mapping[str, Any]) -> bool:
    """Return whether all votes, and the label, are of the same classes, and all rows as long."""
    for one in (*(identification.get("survival") or []), *(identification.get("again") or [])):
        rows = [[len(row) for row in one[key]] for key in ("classes", "success", "pull")]
        if any(row != rows[0] for row in rows) or len(rows[0]) != len(one["budgets"]):
            return False
    votes = identification.get("votes") or []
    sizes = {len(vote[key]) for vote in votes for key in ("clean_frequency", "perturbed_frequency")}
    if not sizes:
        return True
    return len(sizes) == 1 and identification.get("target_label", 0) < min(sizes)


def read_losses(path: Path) -> list[float]:
    """Return the loss of every step; none for no file."""
    found = read_or_warn(path)
    values = found.get("losses") if isinstance(found, dict) else found
    if not isinstance(values, list):
        return []
    if not _LOSSES(values):
        log.warning("%s is left out: losses are finite numbers", path)
        return []
    return [float(value) for value in values]


def read_predictions(path: Path) -> Predictions | None:
    """Return what the purified model predicted; None for no file."""
    if not path.is_file():
        return None
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise ValueError(f"unpacked it is larger than {_LARGEST >> 20} MiB")
        with np.load(path, allow_pickle=False) as arrays:
            found: Sequence[NDArray[np.int32]] = [
                arrays[name] for name in ("labels", "clean", "triggered")
            ]
        labels, clean, triggered = found
        forms = {(one.shape, one.dtype.kind) for one in found}
        if forms != {((labels.size,), "i")}:
            raise ValueError("it has not one whole number for each image")
        return Predictions(labels, clean == labels, _hits(labels, triggered))
    except Exception as error:  # zipfile and zlib raise types of their own
        log.warning("%s is left out: %s", path, error)
        return None


def _hits(labels: NDArray[np.int32], triggered: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """The target is the class whose images carry no trigger; without a trigger, none does."""
    import numpy as np

    target = np.unique(labels[triggered == _NO_PREDICTION])
    hits: NDArray[np.bool_] | None = triggered == target[0] if len(target) == 1 else None
    return hits


def read_or_warn(path: Path) -> Any:
    """Return the content of a JSON file; None, with a warning if it is there and damaged."""
    try:
        return read_json(path, _LARGEST_JSON)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", path, error)
        return None
