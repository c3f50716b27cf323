"""Send finished offline runs to Weights & Biases, under the ids that they have on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.terminal import printable
from experiments.tracking.record import RECORD, read_record
from experiments.tracking.tracking import has_key
from invertune.progress import progress

NO_KEY = (
    "invertune sync needs a W&B key: copy yours from https://wandb.ai/authorize, "
    "then set WANDB_API_KEY or run wandb login"
)
_AT_ONCE = 20  # runs of one process, whose start takes longer than a run
_PATIENCE = 120  # seconds for a run

# Sends W&B's folders of runs and returns the last it had to say; a marker beside a run's log says
# that the run arrived.
Push = Callable[[Sequence[Path]], str]


@dataclass
class Synced:
    """How many runs were pushed now, were there already, and failed."""

    pushed: int = 0
    there: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"pushed {self.pushed}, already there {self.there}, failed {self.failed}"


def sync(runs_dir: Path, push: Push | None = None) -> Synced:
    """Push the finished offline runs below ``runs_dir`` that were not pushed before.

    Where nothing at all arrives, it stops after the first runs.

    Args:
        runs_dir: Folder of runs.
        push: What sends; `wandb_sync` if not given.

    Raises:
        ValueError: If there is no such folder, or runs to push and no key.
    """
    if not runs_dir.is_dir():
        raise ValueError(f"{runs_dir} is not a folder of runs")
    done, waiting = Synced(), []
    for folder in _offline_runs(runs_dir):
        if not _logs(folder):
            done.failed += 1
            _complain(folder, "W&B's log is not there")
        elif arrived(folder):
            done.there += 1
        else:
            waiting.append(folder)
    if waiting and push is None and not has_key():
        raise ValueError(NO_KEY)
    reached, reason = True, ""
    chunks = [waiting[i : i + _AT_ONCE] for i in range(0, len(waiting), _AT_ONCE)]
    for chunk in progress(chunks, "sync"):
        if reached:
            reason = (push or wandb_sync)(chunk)
            reached = any(map(arrived, chunk))
        for folder in chunk:
            if arrived(folder):
                done.pushed += 1
            else:
                done.failed += 1
                _complain(folder, reason)
    return done


def arrived(folder: Path) -> bool:
    """Return whether W&B marked the run in its folder as sent."""
    logs = _logs(folder)
    return bool(logs) and all(log.with_name(f"{log.name}.synced").exists() for log in logs)


def wandb_sync(folders: Sequence[Path]) -> str:
    """Let ``wandb sync`` send runs; return the last line of what it says."""
    words = [sys.executable, "-m", "wandb", "sync", *(str(folder.resolve()) for folder in folders)]
    with tempfile.TemporaryDirectory() as scratch:  # where W&B leaves logs of its own
        try:
            ended = subprocess.run(
                words,
                cwd=scratch,
                env={**os.environ, "WANDB_DIR": scratch},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE * len(folders),
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return f"no answer in {late.timeout:.0f} s"
    said = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    return said[-1] if said else f"wandb sync ended with code {ended.returncode}"


def _offline_runs(runs_dir: Path) -> Iterator[Path]:
    """Yield W&B's folder of every run that was logged offline to the end."""
    for path in sorted(runs_dir.glob(f"*/{RECORD}")):
        record = read_record(path.parent)
        if record is None or record.get("mode") != "offline":
            continue
        logged = path.parent / "wandb"
        if record["run"] is not None:
            yield logged / record["run"]
            continue
        # Before the record had its name: the last one, for after it no other was opened.
        yield max(logged.glob(f"offline-run-*-{record.get('id')}"), default=logged)


def _logs(folder: Path) -> list[Path]:
    return list(folder.glob("run-*.wandb"))


def _complain(folder: Path, reason: str) -> None:
    run = folder.parent.parent if folder.name != "wandb" else folder.parent
    line = printable(f"failed: {run.name}: {reason}")
    print(line, file=sys.stderr, flush=True)
