"""How a run ended: complete, failed, or neither."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from experiments.errors import one_line
from experiments.files import replacing
from experiments.results.result import FILE, read_result
from experiments.sweeps.sweep import Job, planned_stages
from experiments.terminal import printable

log = logging.getLogger(__name__)

FAILURE_FILE = "failure.txt"


def is_complete(runs_dir: Path, job: Job) -> bool:
    """Return whether the run has a valid result, made of exactly the stages it needs.

    A result that is none is named in a warning.
    """
    path = runs_dir / job.run / FILE
    try:
        result = read_result(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", path, error)
        return False
    return bool(result["id"] == job.id) and planned_stages(result) == job.stages


def failed(folder: Path) -> bool:
    """Return whether the last attempt at a run ended in an error."""
    return (folder / FAILURE_FILE).is_file()


def failure_line(folder: Path) -> str:
    """Return the last line of what a failed run left: the error."""
    try:
        lines = (folder / FAILURE_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        return f"{FAILURE_FILE} cannot be read: {error.strerror}"
    said = [line.strip() for line in lines if line.strip()]
    return printable(said[-1]) if said else "unknown"


def record_failure(folder: Path, error: BaseException) -> None:
    """Leave the traceback, and the error in one last line, in the run's folder."""
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FAILURE_FILE) as partial:
            partial.write_text(
                f"{text}\n{type(error).__name__}: {one_line(error)}\n", encoding="utf-8"
            )
    except OSError as disk:
        log.warning("%s does not take the traceback: %s", folder, disk.strerror)


def forget_failure(folder: Path) -> None:
    """Remove what an earlier attempt left, once the run is complete."""
    (folder / FAILURE_FILE).unlink(missing_ok=True)
