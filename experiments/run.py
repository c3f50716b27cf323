"""The entry point: one attack and one defense on one model, or a sweep of them with ``-m``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from experiments.errors import FAILURE, is_user_error, report
from experiments.result import build_result, part_names, result_id, run_name, write_result
from experiments.stages import Stages
from experiments.store import StageFolder
from experiments.summary import describe

CONF = Path(__file__).resolve().parent.parent / "conf"
_FULL_ERROR = "HYDRA_FULL_ERROR"


class ReportedError(RuntimeError):
    """The user has read what went wrong."""


def run(cfg: DictConfig) -> Path:
    """Run what the config asks for and return the path of its ``result.json``."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    tracking, stages = instantiate(cfg.tracking), Stages(config)
    tracking.check()
    stages.check()
    parts = part_names(config, HydraConfig.get().runtime.choices)
    folder = Path(config["runs_dir"]).expanduser() / run_name(config, parts)
    with tracking.start(folder, result_id(config), config, tags=parts, sweep=_sweep()) as tracked:
        clean = stages.pretrain()
        backdoored = stages.implant(clean)
        found = stages.search(backdoored)
        purified = stages.purify(backdoored, found)
        made = {
            "pretrain": clean,
            "implant": backdoored,
            **({} if found is None else {"purify/search": found}),
            "purify": purified,
            "evaluate/clean": stages.evaluate(clean, backdoored),
            "evaluate/backdoored": stages.evaluate(backdoored, backdoored),
            "evaluate/purified": stages.evaluate(purified, backdoored),
            "inspect": stages.inspect(purified, backdoored),
        }
        result = build_result(config, made)
        path = write_result(folder, result)
        tracked.result(result, _curves(made), _pictures(made["inspect"]))
    print(describe(result), path, sep="\n", flush=True)
    return path


def _curves(stages: Mapping[str, StageFolder]) -> dict[str, list[float]]:
    losses = {
        role: stages[role].json("losses.json")
        for role in ("pretrain", "implant")
        if stages[role].has("losses.json")
    }
    steps = stages["purify"].json("defense.json")["curves"]
    return {**losses, **{f"purify/{name}": curve for name, curve in steps.items()}}


def _pictures(inspected: StageFolder) -> dict[str, list[Any]]:
    from PIL import Image

    found: dict[str, list[Any]] = {}
    for path in sorted(inspected.file("pictures").glob("*.png")):
        found.setdefault(path.stem.rsplit("-", 1)[0], []).append(Image.open(path))
    return found


def _sweep() -> str | None:
    """Return the name of the sweep's folder, None for a single run."""
    settings = HydraConfig.get()
    return Path(settings.sweep.dir).name if settings.mode == RunMode.MULTIRUN else None


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> None:
    try:
        run(cfg)
    except Exception as error:
        if not is_user_error(error) or _wants_traceback():
            raise
        report(error)
        if _sweep() is None:
            sys.exit(FAILURE)
        raise ReportedError from error  # which lets the other jobs of the sweep go on


def _wants_traceback() -> bool:
    return os.environ.get("INVERTUNE_TRACEBACK") == "1"


def main(argv: list[str]) -> int:
    """Run Hydra on the given overrides and return the exit code."""
    # argparse takes the overrides as one block, so a -m among them goes first.
    ordered = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))
    arguments, sys.argv = sys.argv, ["invertune run", *ordered]
    # Hydra lets exceptions through only where this is set; the user's own wish is kept beside it.
    wish = os.environ.get(_FULL_ERROR)
    os.environ["INVERTUNE_TRACEBACK"] = wish or "0"
    os.environ[_FULL_ERROR] = "1"
    try:
        _job()
    except ReportedError:
        return FAILURE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILURE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if _wants_traceback() or not is_user_error(error):
            raise
        report(error)
        return FAILURE
    finally:
        sys.argv = arguments
        del os.environ["INVERTUNE_TRACEBACK"], os.environ[_FULL_ERROR]
        if wish is not None:
            os.environ[_FULL_ERROR] = wish
    return 0


if __name__ == "__main__":
    from experiments.cli import tune_allocator

    tune_allocator()
    sys.exit(main(sys.argv[1:]))
