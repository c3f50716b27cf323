"""Read thousands of damaged and hostile files: none may run code, hang, or end in a traceback.

``python tests/stress/fuzz_files.py [--count 2400] [--seed 0]`` makes small checkpoints of every
format, a bundle and a run with its stages, changes a copy of one (cut off, bits flipped, members
swapped, values of other types, pipes in the place of files, ...), and lets the command read it that
reads such files. It prints counts by kind and ends with exit code 1 if a single one ran a payload,
took more than 5 seconds, killed the process, or ended in anything but success or one line. A
mutant's number and the seed make it again: ``--only 17``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.stress.mutations import CHANGES, impossible, values
from tests.stress.originals import ROOT, TINY, make_originals

KINDS = ("checkpoint", "bundle", "result", "stage")
SHARE = {"checkpoint": 0.5, "bundle": 0.2, "result": 0.15, "stage": 0.15}
SECONDS, PATIENCE = 5, 60


class HangError(BaseException):
    """A reader took too long; no `Exception`, so that none catches it."""


def mutant(
    number: int, seed: int, originals: Path, folder: Path
) -> tuple[str, str, list[list[str]]]:
    """Make a mutant in a folder; return its kind, the change, and the commands that read it."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(KINDS, [SHARE[k] for k in KINDS])[0]
    canary = folder / "ran"
    if kind in ("checkpoint", "bundle"):
        chosen = originals / kind
        if kind == "checkpoint":
            chosen = rng.choice(sorted(chosen.iterdir()))
        copy = folder / chosen.name
        if chosen.is_dir():
            shutil.copytree(chosen, copy)
        else:
            shutil.copy(chosen, copy)
        files = sorted(path for path in (copy, *copy.rglob("*")) if path.is_file())
    else:
        shutil.copytree(originals / "runs", folder / "runs", symlinks=True)
        pattern = "*/result.json" if kind == "result" else "stages/*/*"
        files = sorted(path for path in (folder / "runs").glob(pattern) if path.is_file())
    path = rng.choice(files)
    json_files = [file for file in files if file.suffix == ".json"]
    change = rng.choice(CHANGES)
    if change in (values, impossible) and json_files and kind != "checkpoint":
        path = rng.choice(json_files)
    change(rng, path, canary)
    name = f"{change.__name__} of {path.relative_to(folder)}"
    if kind == "checkpoint":
        place = path.parent if path.parent.name == "hub" and rng.random() < 0.5 else path
        return kind, name, [["inspect", str(place)]]
    if kind == "bundle":
        commands = [["verify", str(folder / "bundle"), "--device", "cpu"]]
        return kind, name, [*commands, ["inspect", str(folder / "bundle" / "weights.safetensors")]]
    runs = str(folder / "runs")
    commands = [["table", runs], ["status", runs], ["report", runs]]
    if kind == "stage" and rng.random() < 0.3:
        commands.append([*TINY, f"runs_dir={runs}"])
    return kind, name, commands


def read(commands: list[list[str]], canary: Path) -> str:
    """Run the commands in this process; return ``ok``, ``one line``, or what is bad."""
    outcome = "ok"
    for command in commands:
        code, shown, said, bad = _run(command)
        if canary.exists():
            bad = "RAN"
        elif not bad and "Traceback" in said:
            bad = f"TRACEBACK, {said[-1500:]}"
        elif not bad and code and not _is_one_line(command, shown, said):
            bad = f"NOT ONE LINE, exit {code}, {said[-800:]!r}"
        elif not bad and any(ord(c) < 32 and c not in "\n\t" for c in shown + said):
            bad = "CONTROL CHARACTERS"
        if bad:
            what, _, more = bad.partition(", ")
            return f"{what} of {command[0]}: {more}"
        outcome = "one line" if code else outcome
    return outcome


def _run(command: list[str], times: int = 1) -> tuple[int, str, str, str]:
    """Return exit code, stdout, stderr, and what is bad already."""
    from experiments import cli

    shown, said, code, bad = io.StringIO(), io.StringIO(), 1, ""
    logging.getLogger().handlers.clear()
    works = command[0] == "run"  # makes anew what is not sound
    signal.alarm(times * SECONDS * (6 if works else 1))
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            code = cli.main(command)
    except HangError:
        bad = "HANG"
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        bad = f"TRACEBACK, {traceback.format_exc()[-1500:]}"
    finally:
        signal.alarm(0)
    return code, shown.getvalue(), said.getvalue(), bad


def _is_one_line(command: list[str], shown: str, said: str) -> bool:
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    differ = command[0] == "verify" and not errors and "not the same" in shown
    return len(errors) == 1 or differ


def _warm_up(originals: Path) -> None:
    """Import what the commands need, which takes longer than they may."""
    for command in (["inspect", str(originals / "checkpoint" / "new.pt")],
                    ["verify", str(originals / "bundle")], ["report", str(originals / "runs")],
                    [*TINY, f"runs_dir={originals / 'runs'}"]):  # fmt: skip
        code, _, said, bad = _run(command, times=20)
        if code or bad:
            raise RuntimeError(f"{command} fails on what is not changed: {bad} {said}")


def work(arguments: argparse.Namespace) -> None:
    """Read mutants one after another, a line of JSON for each: what a child process does."""

    def ring(*_: Any) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, ring)
    out = os.fdopen(os.dup(1), "w")
    _warm_up(arguments.originals)
    for number in range(arguments.start, arguments.stop):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            kind, change, commands = mutant(number, arguments.seed, arguments.originals, folder)
            print(json.dumps([number, kind, change, None]), file=out, flush=True)
            os.chdir(folder)
            outcome = read(commands, folder / "ran")
            os.chdir("/")
        print(json.dumps([number, kind, change, outcome]), file=out, flush=True)


def supervise(arguments: argparse.Namespace, originals: Path) -> list[tuple[int, str, str, str]]:
    """Let children read all mutants; one that dies or is silent costs the mutant it was at."""
    found: list[tuple[int, str, str, str]] = []
    start = arguments.start
    while start < arguments.stop:
        child = subprocess.Popen(
            [sys.executable, __file__, "--work", "--originals", str(originals),
             "--start", str(start), "--stop", str(min(start + 200, arguments.stop)),
             "--seed", str(arguments.seed)],
            stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "INVERTUNE_ALLOCATOR": "0"},
        )  # fmt: skip
        last: tuple[int, str, str] | None = None
        timer = _Watch(child)
        assert child.stdout is not None
        for line in child.stdout:
            timer.fed()
            number, kind, change, outcome = json.loads(line)
            last, start = (number, kind, change), number + 1
            if outcome is not None:
                found.append((number, kind, change, outcome))
                last = None
        timer.stop()
        if child.wait() and last is not None:
            found.append((*last, f"DIED with {child.returncode}"))
        elif child.returncode and last is None:
            raise RuntimeError(f"a child ended with {child.returncode} between mutants, at {start}")
        print(f"{start} of {arguments.stop}", flush=True)
    return found


class _Watch:
    """Kills a child that says nothing for too long."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        import threading

        self.child, self.make = child, threading.Timer
        self.timer = self.make(PATIENCE, child.kill)
        self.timer.start()

    def fed(self) -> None:
        self.timer.cancel()
        self.timer = self.make(PATIENCE, self.child.kill)
        self.timer.start()

    def stop(self) -> None:
        self.timer.cancel()


def main() -> int:
    """Print counts and what went wrong; return 1 if anything did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2400, help="mutants; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one mutant")
    for hidden in ("--start", "--stop"):
        parser.add_argument(hidden, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--originals", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return 0
    arguments.start = 0 if arguments.only is None else arguments.only
    arguments.stop = arguments.count if arguments.only is None else arguments.only + 1
    with tempfile.TemporaryDirectory() as folder:
        make_originals(Path(folder))
        found = supervise(arguments, Path(folder))
    counts = collections.Counter(
        (kind, outcome.partition(" of ")[0]) for _, kind, _, outcome in found
    )
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:<12}{outcome:<24}{count:>6}")
    bad = [one for one in found if one[3] not in ("ok", "one line")]
    for number, kind, change, outcome in bad:
        print(f"\n{number}: {kind}, {change}\n{outcome}")
    print(f"{len(found)} mutants, {len(bad)} bad")
    return 1 if bad or len(found) < arguments.stop - arguments.start else 0


if __name__ == "__main__":
    sys.exit(main())
