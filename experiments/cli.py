"""The console command ``invertune``; it imports nothing heavy before a sub-command needs it."""

from __future__ import annotations

import importlib
import logging
import os
import sys

from experiments.allocator import tune_allocator
from experiments.errors import FAILURE, USAGE, is_user_error, report
from experiments.terminal import Lines, hush

__all__ = ["COMMANDS", "FAILURE", "HELP", "USAGE", "main", "tune_allocator"]

CLOSED = 141  # as of a program that SIGPIPE ends

HELP = """\
usage: invertune COMMAND ...

Plant backdoors in CLIP models, find and remove them.

commands:
  run        one attack and one defense on one model, or a sweep:
             invertune run attack=badnet defense=invertune seed=0
             invertune run -m attack=badnet,blended seed=0,1,2
             invertune run experiment=t1_classification
  plan       what runs will take: stages, FLOP, hours, disk, memory
  status     what is done, running, failed and left below a folder
  table      a table of all runs, or of one experiment, below a folder
  figure     sensitivity figures of an experiment, as PNG
  report     one HTML page of all runs below a folder
  gallery    one picture of every attack's trigger below a folder
  sync       push finished offline runs to Weights & Biases
  benchmark  time the parts of a run on this machine
  sheets     contact sheets of the data set's parts
  data       what the parts of a data set hold, and what of them cannot be used
  hubness    what universal perturbations do to clean models
  calibrate  how far classes lead in clean and backdoored models, and laws fitted to that
  inspect    what a CLIP checkpoint from elsewhere is
  export     a model of a run as one folder, with a card that says what it is
  verify     measure such a folder's model again and compare with its card
  ship       the clean model of a run as a small file that comes with the package

invertune COMMAND --help says more. Results go to runs/ unless runs_dir=PATH is given."""

COMMANDS = (
    "run", "plan", "status", "table", "figure", "report", "gallery", "sync", "benchmark", "sheets",
    "data", "hubness", "calibrate", "inspect", "export", "verify", "ship",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; return the exit code: 0, 1 for a failure, 2 for wrong usage, or 141."""
    from_shell = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        return _without_command(argv)
    command, rest = argv[0], argv[1:]
    if from_shell and command in ("run", "benchmark"):
        tune_allocator()
    if command == "run":
        from experiments.run import main as run

        return run(rest)
    _set_up_logging()
    try:
        return int(importlib.import_module(f"experiments.commands.{command}").main(rest) or 0)
    except BrokenPipeError:  # as of `| head`, which has read enough
        hush()  # for the flush at the end
        return CLOSED
    except Exception as error:
        if not is_user_error(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        report(error)
        return FAILURE


class _Lines(Lines):
    """Warnings say that they are; lines of long work stand as they are."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        return prefix + super().format(record)


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("invertune.progress").setLevel(logging.INFO)


def _without_command(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0 if argv else USAGE
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"invertune {version('invertune')}")
        return 0
    if argv[0] in ("-sc", "--shell-completion"):
        return _completion(argv)
    choices = ", ".join(COMMANDS)
    print(f"error: unknown command {argv[0]!r}; choices: {choices}", file=sys.stderr)
    return USAGE


def _completion(argv: list[str]) -> int:
    """Let Hydra complete the overrides of ``invertune run``; complete the commands ourselves."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if any(word.startswith("query") for word in argv) and words[1:2] != ["run"]:
        start = words[1] if len(words) > 1 else ""
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print("\n".join(name for name in COMMANDS if name.startswith(start)))
        return 0
    if words[1:2] == ["run"]:  # Hydra knows a program without sub-commands
        shorter = line.replace(" run", "", 1)
        os.environ["COMP_LINE"] = shorter
        os.environ["COMP_POINT"] = str(len(shorter))
    from experiments.run import main as run

    return run(argv, program="invertune")


if __name__ == "__main__":
    sys.exit(main())
