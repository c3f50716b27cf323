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
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KINDS = ("checkpoint", "bundle", "result", "stage")
SHARE = {"checkpoint": 0.5, "bundle": 0.2, "result": 0.15, "stage": 0.15}
SECONDS, PATIENCE = 5, 60
TINY = ["run", "--config-dir", str(ROOT / "tests" / "experiments" / "conf"), "data=tiny",
        "model=tiny", "attack=tiny", "defense=tiny", "tracking=disabled", "threads=1"]  # fmt: skip
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
ODD: list[Any] = [
    None, True, -1, 0, 10**12, 1e308, float("nan"), "", "x" * 10**5, "../../x", "/etc/passwd",
    "\x1b[31mred\r\nevery rate is the same", "${oc.env:HOME}", [], {}, [[[[[]]]]],
    {"_target_": "os.system"}, "roberta-ViT-B-32", [0] * 10**4,
]  # fmt: skip


INSTRUCTIONS = b"Rcibo.0(}]Qh\x81\x93\x82ut"


class HangError(BaseException):
    """A reader took too long; no `Exception`, so that none catches it."""


class Payload:
    """Unpickled freely, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def make_originals(folder: Path) -> None:
    """Write the files that are then changed."""
    subprocess.run(
        [sys.executable, "-m", "experiments.cli", *TINY, f"runs_dir={folder / 'runs'}"],
        check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "INVERTUNE_ALLOCATOR": "0"},
    )  # fmt: skip
    (run,) = (folder / "runs").glob("*/result.json")
    from experiments.bundles.export import write_bundle

    write_bundle(run.parent, folder / "bundle")
    _make_checkpoints(folder / "checkpoint")


def _make_checkpoints(folder: Path) -> None:
    import numpy as np
    import safetensors.torch
    import torch

    from invertune.clip.spec import ModelSpec
    from invertune.clip.weights import save_weights

    folder.mkdir()
    model = ModelSpec("small", architecture=SMALL).build(0)
    state = {name: value.contiguous() for name, value in model.clip.state_dict().items()}
    state = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    wrapped = {"epoch": 3, "name": "run", "optimizer": {"lr": np.float64(0.1)}}
    wrapped["state_dict"] = {f"module.{name}": value for name, value in state.items()}
    torch.save(wrapped, folder / "new.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_weights(model, folder / "own.safetensors")
    root = torch.nn.Module()
    for name, value in state.items():
        module = root
        *places, last = name.split(".")
        for place in places:
            if place not in dict(module.named_children()):
                module.add_module(place, torch.nn.Module())
            module = module.get_submodule(place)
        module.register_buffer(last, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(root), folder / "script.pt")
    hub = folder / "hub"
    hub.mkdir()
    safetensors.torch.save_file(state, hub / "model.safetensors")
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (hub / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": half}))
    (hub / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (hub / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))


def cut(rng: random.Random, path: Path, _: Path) -> None:
    """Cut the end off."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def flip(rng: random.Random, path: Path, _: Path) -> None:
    """Flip some bits, most of them near the ends, where the headers are."""
    content = bytearray(path.read_bytes())
    for _flip in range(rng.choice([1, 1, 2, 8, 64])):
        near = min(len(content), 4000)
        place = rng.choice(
            [rng.randrange(len(content)), rng.randrange(near), -1 - rng.randrange(near)]
        )
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def splice(rng: random.Random, path: Path, _: Path) -> None:
    """Move, repeat or overwrite a piece."""
    content = path.read_bytes()
    one, other = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    piece = rng.choice([content[one:other], bytes(rng.randrange(64)), b"\xff" * 8, content])
    path.write_bytes(content[:one] + piece + content[rng.choice([one, other]) :])


def odd_file(rng: random.Random, path: Path, _: Path) -> None:
    """Put something else in the place of the file."""
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        path.symlink_to(path)
    elif kind == 4:
        path.write_bytes(b"")


def payload(rng: random.Random, path: Path, canary: Path) -> None:
    """Put a pickle that would run code into the file, in one of torch's forms."""
    import torch

    content = {"state_dict": {"a": torch.ones(1)}, "more": Payload(canary)}
    form = rng.randrange(4)
    if form == 0:
        torch.save(content, path)
    elif form == 1:
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=rng.randrange(6)))
    if form == 3 and path.stat().st_size > 30:
        flip(rng, path, canary)


def opcodes(rng: random.Random, path: Path, canary: Path) -> None:
    """Change instructions of the pickle in an archive, or swap, repeat and rename its members."""
    if not zipfile.is_zipfile(path):
        return flip(rng, path, canary)
    with zipfile.ZipFile(path) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(members))
    kind = rng.randrange(5)
    for place, (name, content) in enumerate(members):
        if kind == 0 and name.endswith("data.pkl"):
            changed = bytearray(content)
            for _ in range(rng.choice([1, 2, 16])):
                changed[rng.randrange(len(changed))] = rng.choice(
                    pickle.__dict__["REDUCE"] + b"cibo.0(}]Qh\x81\x93\x82ut"
                )
            members[place] = (name, bytes(changed))
        elif kind == 1 and name.endswith("data.pkl"):
            members[place] = (name, pickle.dumps(Payload(canary), protocol=2))
    if kind == 2:
        other = rng.randrange(len(members))
        (one, first), (two, second) = members[at], members[other]
        members[at], members[other] = (one, second), (two, first)
    elif kind == 3:
        members.append((members[at][0], b"again"))
    packing = zipfile.ZIP_LZMA if kind == 4 else zipfile.ZIP_STORED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return None


def values(rng: random.Random, path: Path, canary: Path) -> None:
    """Change values of a JSON file, or of the JSON in a safetensors header; seal it again."""
    if path.suffix != ".json":
        return flip(rng, path, canary)
    content = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 3])):
        at, key = rng.choice(list(_places(content)))
        kind = rng.randrange(4)
        if kind == 0 and isinstance(at, dict):
            del at[key]
        elif kind == 1:
            _, other = place = rng.choice(list(_places(content)))
            at[key] = json.loads(json.dumps(place[0][other]))
        else:
            at[key] = rng.choice(ODD)
        if not content:
            break
    if isinstance(content, dict) and "sha256" in content and rng.random() < 0.8:
        from experiments.files import digest

        with contextlib.suppress(ValueError):
            content["sha256"] = digest({k: v for k, v in content.items() if k != "sha256"})
    text = json.dumps(content)
    if rng.random() < 0.05:
        text = "[" * 100_000 + text
    path.write_text(text)
    return None


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def swap(rng: random.Random, path: Path, _: Path) -> None:
    """Swap two files of the folder."""
    other = rng.choice([p for p in path.parent.iterdir() if p.is_file()])
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


CHANGES: list[Callable[[random.Random, Path, Path], None]] = [
    cut, flip, flip, splice, odd_file, payload, opcodes, opcodes, values, values, values, swap,
]  # fmt: skip


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
    if change is values and json_files:
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
    slow = command[0] in ("run", "report")  # which do much besides reading
    signal.alarm(times * SECONDS * (6 if slow else 1))
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
