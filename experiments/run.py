"""The entry point: one attack and one defense on one model, or a sweep of them with ``-m``."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from experiments.composing import as_texts
from experiments.composing import register as register_files
from experiments.config import CONF, Config, part_names, plain_config, result_id, run_name
from experiments.errors import FAILURE, is_user_error, one_line, report
from experiments.launch import ProcessesFailedError, launch
from experiments.names import runs_folder
from experiments.results.result import FILE, build_result, write_result
from experiments.results.summary import describe
from experiments.stages.artifacts import DEFENSE, EVIDENCE, LOSSES, PICTURES
from experiments.stages.locks import held
from experiments.stages.stages import Stages
from experiments.stages.store import StageFolder
from experiments.stages.team import LAUNCHED, Team
from experiments.stages.weighed import with_weights
from experiments.sweeps.failures import forget_failure, record_failure
from experiments.sweeps.sweeper import NODE, SweepFailedError, register
from experiments.terminal import tell
from experiments.tracking.tracking import run_title
from invertune.contents import remembered

if TYPE_CHECKING:
    from PIL import Image

_FULL_ERROR = "HYDRA_FULL_ERROR"
RETRY_FLAG = "--retry-failed"


class ReportedError(RuntimeError):
    """The user has read what went wrong."""


@remembered()
def run(cfg: DictConfig) -> Path:
    """Run what the config asks for and return the path of its ``result.json``.

    Where ``processes`` is more than 1 and something is left to train, as many others make it.
    """
    config, team = with_weights(plain_config(cfg)), Team.met()
    parts = part_names(config, HydraConfig.get().runtime.choices)
    folder = runs_folder(config["runs_dir"]) / run_name(config, parts)
    try:
        if team is not None:
            team.hush()
            _check_size(config, team)
        with contextlib.closing(Stages(config, team)) as stages:
            alone = team is None and (config["processes"] == 1 or not stages.trains())
            if alone or (team is not None and team.leads):
                _make(cfg, config, stages, folder)
                stages.end()
            elif team is not None:
                stages.follow()
    except Exception as error:
        found = error if team is None else _agreed(team, error)
        killed = isinstance(found, ReportedError) and not found.args  # it goes on from there
        leads = (team is None or team.leads) and not killed
        if leads and (_sweep() is not None or not is_user_error(error)):
            record_failure(folder, found)
        if found is error:
            raise  # with its cause, which says what is wrong
        raise found from error
    if team is not None:
        team.close()
    elif not alone:
        _launch(cfg, config["processes"])
    return folder / FILE


def _make(cfg: DictConfig, config: Config, stages: Stages, folder: Path) -> None:
    """Make all stages and the result, and say what it is."""
    tracking = instantiate(cfg.tracking)
    parts = part_names(config, HydraConfig.get().runtime.choices)
    tracking.check()
    stages.check()
    with (
        held(runs_folder(config["runs_dir"]), folder.name),
        tracking.start(
            folder, result_id(config), config, tags=parts, sweep=_sweep(),
            name=run_title(parts, config["seed"], HydraConfig.get().overrides.task),
        ) as tracked,
    ):  # fmt: skip
        made = stages.make()
        result = build_result(config, made)
        path = write_result(folder, result)
        forget_failure(folder)
        tracked.result(result, _curves(made), _pictures(made["inspect"]))
    tell(describe(result))
    tell(path)


def _launch(cfg: DictConfig, processes: int) -> None:
    """Let several processes make the run."""
    full = cfg.copy()
    with open_dict(full):
        full.hydra = HydraConfig.instance().cfg.hydra  # type: ignore[union-attr]
    try:
        launch(full, processes)
    except ProcessesFailedError as error:
        raise ReportedError from error


def _check_size(config: Config, team: Team) -> None:
    if config["processes"] not in (1, team.size):
        raise ValueError(
            f"processes={config['processes']}, but torchrun started {team.size}; leave it out"
        )


def _agreed(team: Team, error: Exception) -> Exception:
    """Return the error for this process to report: `ReportedError` where another one has."""
    if type(error).__name__ != "LostProcessError":
        before = team.fail(one_line(error))
        return error if before is None else ReportedError(before)
    cause = team.cause()
    if cause is not None:
        return ReportedError(cause)
    if LAUNCHED not in os.environ:
        return error
    team.lose(one_line(error))  # who launched the processes sees which one was killed
    return ReportedError()


def _curves(stages: Mapping[str, StageFolder]) -> dict[str, list[float]]:
    losses = {
        role: stages[role].json(LOSSES)
        for role in ("pretrain", "implant")
        if stages[role].has(LOSSES)
    }
    steps = {"purify": stages["purify"].json(DEFENSE)["curves"]}
    if "detect" in stages:
        steps["detect"] = stages["detect"].json(EVIDENCE)["curves"]
    told = {f"{role}/{name}": curve for role, own in steps.items() for name, curve in own.items()}
    return {**losses, **told}


def _pictures(inspected: StageFolder) -> dict[str, list[Image.Image]]:
    from PIL import Image

    found: dict[str, list[Image.Image]] = {}
    for path in sorted(inspected.file(PICTURES).glob("*.png")):
        found.setdefault(path.stem.rsplit("-", 1)[0], []).append(Image.open(path))
    return found


def _sweep() -> str | None:
    """Return the name of the sweep, None for a single run."""
    name = _told("name") if HydraConfig.get().mode == RunMode.MULTIRUN else None
    return None if name is None else str(name)


def _told(field: str) -> object:
    """Return a field of the sweeper's config, which reaches runs in other processes too."""
    return HydraConfig.get().sweeper.get(field)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> None:
    attempt(cfg)


def attempt(cfg: DictConfig) -> None:
    """Run what the config asks for; what goes wrong is said in one line.

    Raises:
        ReportedError: In a sweep, or where another process has said it.
    """
    try:
        run(cfg)
    except ReportedError:
        raise
    except Exception as error:
        swept = _sweep() is not None
        if not swept and (not is_user_error(error) or _wants_traceback()):
            raise
        if _wants_traceback():
            traceback.print_exception(error)
        report(error)
        if not swept:
            sys.exit(FAILURE)
        raise ReportedError from error  # which lets the other jobs of the sweep go on


def _wants_traceback() -> bool:
    return bool(_told("traceback"))


def main(argv: list[str], program: str = "invertune run") -> int:
    """Run Hydra on the given overrides and return the exit code."""
    register()
    register_files()
    before, wish = sys.argv, os.environ.get(_FULL_ERROR)
    sys.argv = [
        program,
        *as_texts(_ordered(argv)),
        *([f"{NODE}.traceback=true"] if wish == "1" else []),
    ]
    # Hydra asks the environment alone whether it lets exceptions through.
    os.environ[_FULL_ERROR] = "1"
    try:
        return _exit_code(wish == "1")
    finally:
        sys.argv = before
        del os.environ[_FULL_ERROR]
        if wish is not None:
            os.environ[_FULL_ERROR] = wish


def _ordered(argv: list[str]) -> list[str]:
    """Return the words as Hydra takes them."""
    # argparse takes the overrides as one block, so a -m among them goes first.
    ordered = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))
    return [f"{NODE}.retry_failed=true" if word == RETRY_FLAG else word for word in ordered]


def _exit_code(traceback_wanted: bool) -> int:
    """Run Hydra on ``sys.argv``, say what went wrong, and return the exit code."""
    try:
        _job()
    except ReportedError:
        return FAILURE
    except SweepFailedError as error:
        report(error)
        return FAILURE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILURE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if traceback_wanted or not is_user_error(error):
            raise
        report(error)
        return FAILURE
    return 0


if __name__ == "__main__":
    from experiments.allocator import tune_allocator

    tune_allocator()
    sys.exit(main(sys.argv[1:]))
